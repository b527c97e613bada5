//! A whole run.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use bench_common::now_us;
use service::fd_limit;
use testkit::{PrivateBroker, PrivateMongod, Progress};
use tokio::time::sleep;

use crate::{
    delays::{Delays, Percentiles, millis},
    options::{Options, Transport, What},
    report::{Arrivals, Memory, Report, Resumption, Writes},
    subscribers::{self, Subscribers},
    system::System,
    users::Users,
    writes::{self, Amount},
};

/// Descriptors that this program needs beside its connections.
const OTHER_DESCRIPTORS: usize = 128;

/// Handshakes under way while subscribers connect.
const HANDSHAKES: usize = 64;

/// Pause between the last connection and the reading of memory, in which buffers of handshakes are freed.
const SETTLE: Duration = Duration::from_secs(3);

/// Writes before a measurement, which open the services' connections.
const WARM_UP: Duration = Duration::from_secs(2);

/// Pause after the last answer, in which the last events arrive.
const ARRIVE: Duration = Duration::from_secs(2);

/// Subscribers that follow from now on while others resume, and the writes a second to them.
const OTHERS: Users = Users { name: "other", count: 100 };
const OTHERS_RATE: u32 = 100;

struct Run<'a> {
    options: &'a Options,
    progress: &'a dyn Progress,
    broker: PrivateBroker,
    mongod: PrivateMongod,
    report: Report,
}

/// Measures, and writes the results as text and as JSON.
pub(crate) async fn run(options: &Options, progress: &dyn Progress) -> Result<Report> {
    let needed = options.subscribers.max(options.resuming) + options.connections;
    let available = fd_limit::raise(needed, OTHER_DESCRIPTORS);
    ensure!(
        available >= needed,
        "the limit of file descriptors allows {available} connections, not {needed}; raise it (`ulimit -Hn`) or \
         measure with fewer subscribers"
    );
    progress.say("starting a broker and a database");
    let (broker, mongod) = tokio::try_join!(PrivateBroker::start(), PrivateMongod::start())?;
    let mut run = Run { options, progress, broker, mongod, report: Report::default() };
    for transport in &options.transports {
        if options.what.contains(&What::Arrival) {
            run.arrival(*transport).await?;
        }
        if options.what.contains(&What::Resume) {
            run.resume(*transport).await?;
        }
    }
    if options.what.contains(&What::Writes) {
        for workers in &options.workers {
            run.writes(*workers).await?;
        }
    }
    let report = run.report;
    fs::create_dir_all(&options.out)?;
    for (name, text) in
        [("events.md", report.to_string()), ("events.json", serde_json::to_string_pretty(&report)?)]
    {
        let path = options.out.join(name);
        fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    progress.say(&format!("events.md, events.json are in {}", options.out.display()));
    Ok(report)
}

impl Run<'_> {
    async fn system(&self) -> Result<System> {
        let workers = self.options.workers.first().copied().unwrap_or(1);
        System::start(&self.broker, &self.mongod, workers).await
    }

    /// Measures the rate of writes whose events nobody follows.
    async fn writes(&mut self, workers: usize) -> Result<()> {
        let users = Users { name: "user", count: self.options.subscribers };
        let system = System::start(&self.broker, &self.mongod, workers).await?;
        self.write(&system, users, None, Amount::For(WARM_UP)).await?;
        let time = Amount::For(Duration::from_secs(self.options.seconds));
        let written = self.write(&system, users, None, time).await?;
        let writes = Writes {
            workers,
            connections: self.options.connections,
            per_second: count(written.answers.len()) / written.took.as_secs_f64(),
            failed: written.failed,
            to_answer: Delays::of(&written.answers, &[]).to_answer,
        };
        self.progress.say(&writes.summary());
        self.report.writes.push(writes);
        Ok(())
    }

    /// Measures memory, and the delays of events at each rate.
    async fn arrival(&mut self, transport: Transport) -> Result<()> {
        let users = Users { name: "user", count: self.options.subscribers };
        let system = self.system().await?;
        self.progress.say(&format!("{transport}: connecting {} subscribers", users.count));
        let empty_kib = system.memory_kib()?;
        let subscribers = Subscribers::connect(subscribers::Plan {
            target: system.broadcaster()?,
            transport,
            users,
            after: None,
            at_once: HANDSHAKES,
            expected: u64::MAX,
        })
        .await?;
        sleep(SETTLE).await;
        let idle_kib = system.memory_kib()?;
        for rate in &self.options.rates {
            self.write(&system, users, Some(*rate), Amount::For(WARM_UP)).await?;
            sleep(ARRIVE).await;
            subscribers.take_arrivals();
            let cpu_before = system.cpu_time()?;
            let time = Amount::For(Duration::from_secs(self.options.seconds));
            let written = self.write(&system, users, Some(*rate), time).await?;
            let cpu = system.cpu_time()?;
            sleep(ARRIVE).await;
            let writes = count(written.answers.len());
            let used = |(name, after): (&&'static str, &Duration)| {
                let used = after.saturating_sub(cpu_before.get(name).copied().unwrap_or_default());
                (*name, used.as_secs_f64() * 1e6 / writes)
            };
            let arrivals = Arrivals {
                transport,
                subscribers: users.count,
                asked_per_second: *rate,
                written_per_second: writes / written.took.as_secs_f64(),
                failed: written.failed,
                delays: Delays::of(&written.answers, &subscribers.take_arrivals()),
                cpu_us: cpu.iter().map(used).collect(),
                lost: subscribers.lost(),
            };
            self.progress.say(&format!("{transport}: {}", arrivals.summary()));
            self.report.arrivals.push(arrivals);
        }
        let after_traffic_kib = system.memory_kib()?;
        let memory =
            Memory { transport, subscribers: users.count, empty_kib, idle_kib, after_traffic_kib };
        self.progress.say(&format!("{transport}: {}", memory.summary()));
        self.report.memory.push(memory);
        Ok(())
    }

    /// Measures how long subscribers that resume at once take, for each number of changes, and once more after a restart.
    async fn resume(&mut self, transport: Transport) -> Result<()> {
        let users = Users { name: "user", count: self.options.resuming };
        for changes in &self.options.changes {
            // As many for each.
            let changes = changes / users.count as u64 * users.count as u64;
            let mut system = self.system().await?;
            let after = system.position().await?;
            self.progress.say(&format!("{transport}: making {changes} changes"));
            let written = self.write(&system, users, None, Amount::Writes(changes)).await?;
            ensure!(written.failed == 0, "{} writes failed", written.failed);
            sleep(ARRIVE).await;
            for restarted in [false, true] {
                if restarted {
                    system.restart_broadcaster().await?;
                }
                let resuming = self.resume_at_once(&system, transport, users, changes, &after);
                let resumption = Resumption { restarted, ..resuming.await? };
                self.progress.say(&format!(
                    "{transport}, {changes} changes{}: {}",
                    if restarted { ", restarted" } else { "" },
                    resumption.summary()
                ));
                self.report.resumptions.push(resumption);
            }
        }
        Ok(())
    }

    async fn resume_at_once(
        &self,
        system: &System,
        transport: Transport,
        users: Users,
        changes: u64,
        after: &str,
    ) -> Result<Resumption> {
        let plan = subscribers::Plan {
            target: system.broadcaster()?,
            transport,
            users: OTHERS,
            after: None,
            at_once: HANDSHAKES,
            expected: u64::MAX,
        };
        let others = Subscribers::connect(plan.clone()).await?;
        let time = Amount::For(WARM_UP);
        self.write(system, OTHERS, Some(OTHERS_RATE), time).await?;
        others.take_arrivals();
        let begun_us = now_us();
        let resume = async {
            let mut resuming = Subscribers::start(subscribers::Plan {
                users,
                after: Some(after.to_owned()),
                at_once: users.count,
                expected: 2 * changes / users.count as u64,
                ..plan
            })?;
            let caught_up_us = resuming.caught_up(users.count).await?;
            ensure!(resuming.lost() == 0, "{} subscribers lost their streams", resuming.lost());
            anyhow::Ok(caught_up_us.iter().map(|at_us| at_us - begun_us).collect::<Vec<_>>())
        };
        let time = Amount::For(Duration::from_secs(self.options.seconds));
        let writing = self.write(system, OTHERS, Some(OTHERS_RATE), time);
        let (mut after_us, written) = tokio::try_join!(resume, writing)?;
        sleep(ARRIVE).await;
        after_us.sort_unstable();
        let last_us = after_us.last().copied().unwrap_or_default();
        // Only of the time in which others were catching up.
        let mut answers = written.answers;
        answers.retain(|answer| answer.at_us < begun_us + last_us);
        let delays = Delays::of(&answers, &others.take_arrivals());
        Ok(Resumption {
            transport,
            subscribers: users.count,
            changes,
            restarted: false,
            median_ms: Percentiles::of(after_us).p50,
            last_ms: millis(last_us),
            others: delays.from_answer,
            others_missing: delays.missing,
        })
    }

    async fn write(
        &self,
        system: &System,
        users: Users,
        rate: Option<u32>,
        amount: Amount,
    ) -> Result<writes::Written> {
        let (target, connections) = (system.gateway()?, self.options.connections);
        writes::write(writes::Plan { target, connections, users, rate, amount }).await
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn count(writes: usize) -> f64 {
    writes as f64
}
