//! A whole run: each size for each candidate, then what only the broadcaster is asked for.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use bench_common::now_us;
use clap::Args;
use contracts::{CommandId, Message, MessageId, Timestamp};
use store::{CreateCommand, Store, StoreConfig, StoreSettings};
use testkit::{PrivateBroker, PrivateMongod, Progress, TestEnvironment};
use tokio::time::sleep;

use crate::{
    candidate::{Candidate, Kind, Surroundings},
    descriptors,
    loads::Loads,
    plot,
    report::{Measurement, Report},
    window,
};

/// Number of stored messages.
const MESSAGES: usize = 5_000;

/// Documents of one insert.
const BATCH: usize = 500;

/// Pause between the last connection and the reading of memory, in which buffers of handshakes are freed.
const SETTLE: Duration = Duration::from_secs(3);

/// Pause after the window, in which its last frame arrives everywhere.
const ARRIVE: Duration = Duration::from_secs(2);

/// Time in which subscribers stall while the others' frames are measured. Their buffers hold some frames, and
/// 10 s later they would be closed as slow consumers.
const STALL: Duration = Duration::from_secs(10);

/// Options of a run.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Numbers of subscribers, separated by commas
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "1000,5000,10000,19000"
    )]
    subscribers: Vec<usize>,
    /// Parts to measure, separated by commas
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "bare,broadcaster,peer,replicas,stalled"
    )]
    what: Vec<What>,
    /// Seconds of each measurement; there is one frame a second
    #[arg(long, value_name = "N", default_value_t = 12)]
    seconds: u64,
    /// Maximum number of subscribers of the peer
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    peer_subscribers: usize,
    /// Subscribers on three replicas
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    replica_subscribers: usize,
    /// Characters of each message's content
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=4000))]
    content: u16,
    /// Directory for the results
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    out: PathBuf,
    /// Python with the packages that the peer needs
    #[arg(long, value_name = "FILE", hide = true)]
    peer_python: Option<PathBuf>,
    /// The peer's directory
    #[arg(long, value_name = "DIR", hide = true)]
    peer_dir: Option<PathBuf>,
}

/// Parts of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// A loop of write calls, at each number of subscribers
    Bare,
    /// The broadcaster, at each number
    Broadcaster,
    /// A FastAPI service, at each number up to --peer-subscribers
    Peer,
    /// Three broadcasters with --replica-subscribers in all
    Replicas,
    /// 9,000 subscribers beside 1,000 that stall
    Stalled,
}

struct Run<'a> {
    options: &'a Options,
    progress: &'a dyn Progress,
    broker: PrivateBroker,
    mongod: PrivateMongod,
    report: Report,
}

/// Measures, and writes the results as text, as JSON and as a plot.
pub(crate) async fn run(options: &Options, progress: &dyn Progress) -> Result<Report> {
    // Child processes inherit this limit, and the peer does not raise it by itself.
    let wanted = options.subscribers.iter().copied().max().unwrap_or_default();
    descriptors::require(wanted)?;
    progress.say("starting a broker and a database");
    let (broker, mongod) = tokio::try_join!(PrivateBroker::start(), PrivateMongod::start())?;
    let mut run = Run { options, progress, broker, mongod, report: Report::default() };
    let around = run.surroundings(usize::from(options.content)).await?;
    for &subscribers in &options.subscribers {
        for (what, kind) in [
            (What::Bare, Kind::Bare),
            (What::Broadcaster, Kind::Broadcaster),
            (What::Peer, Kind::Peer),
        ] {
            let can = kind != Kind::Peer || subscribers <= options.peer_subscribers;
            if can && options.what.contains(&what) {
                run.measure(kind, 1, subscribers, &around).await?;
            }
        }
    }
    if options.what.contains(&What::Replicas) {
        run.measure(Kind::Broadcaster, 3, options.replica_subscribers, &around).await?;
    }
    if options.what.contains(&What::Stalled) {
        run.stall().await?;
    }
    let report = run.report;
    fs::create_dir_all(&options.out)?;
    let write = |name: &str, text: String| {
        let path = options.out.join(name);
        fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))
    };
    write("fanout.md", report.to_string())?;
    write("fanout.json", serde_json::to_string_pretty(&report)?)?;
    write("fanout.svg", plot::svg(&report))?;
    progress.say(&format!("fanout.md, fanout.json, fanout.svg are in {}", options.out.display()));
    Ok(report)
}

impl Run<'_> {
    /// Fills a database with messages whose contents have this many characters.
    async fn surroundings(&self, content: usize) -> Result<Surroundings> {
        let builder = TestEnvironment::builder().broker(&self.broker).mongod(&self.mongod);
        let env = builder.build().await;
        let message = fill(&env, content).await?;
        let peer = self.options.peer_python.clone().zip(self.options.peer_dir.clone());
        Ok(Surroundings { env, message, peer })
    }

    async fn measure(
        &mut self,
        kind: Kind,
        replicas: usize,
        subscribers: usize,
        around: &Surroundings,
    ) -> Result<()> {
        self.progress.say(&format!("{kind}: connecting {subscribers} subscribers"));
        let candidate = Candidate::start(kind, replicas, around).await?;
        let empty_bytes = candidate.rss_bytes()?;
        let mut loads = Loads::connect(&candidate.addresses()?, subscribers, 0).await?;
        sleep(SETTLE).await;
        let rss_bytes = candidate.rss_bytes()?;
        let mut measurement = self
            .watch(&candidate, &mut loads, subscribers, Duration::from_secs(self.options.seconds))
            .await?;
        measurement.kind = Some(kind);
        measurement.replicas = replicas;
        measurement.rss_bytes = rss_bytes;
        measurement.empty_rss_bytes = empty_bytes;
        self.progress.say(&format!("{kind}: {}", measurement.summary()));
        self.report.measurements.push(measurement);
        Ok(())
    }

    /// Measures 9,000 subscribers beside 1,000 that stop reading. Messages are large, so that buffers fill soon.
    async fn stall(&mut self) -> Result<()> {
        const READING: usize = 9_000;
        const STALLING: usize = 1_000;
        self.progress.say("stalled: connecting 10,000 subscribers, messages of 4,000 characters");
        let around = self.surroundings(4_000).await?;
        let candidate = Candidate::start(Kind::Broadcaster, 1, &around).await?;
        let addresses = candidate.addresses()?;
        let mut loads = Loads::connect(&addresses, READING + STALLING, STALLING).await?;
        sleep(SETTLE).await;
        let before = self.watch(&candidate, &mut loads, READING, STALL).await?;
        self.progress.say(&format!("all read: {}", before.summary()));
        loads.stall().await?;
        let during = self.watch(&candidate, &mut loads, READING, STALL).await?;
        self.progress.say(&format!("1,000 stalled: {}", during.summary()));
        self.report.stalled = Some((before, during));
        Ok(())
    }

    async fn watch(
        &self,
        candidate: &Candidate,
        loads: &mut Loads,
        expected: usize,
        time: Duration,
    ) -> Result<Measurement> {
        loads.reset().await?;
        let (from_us, cpu_before) = (now_us(), candidate.cpu_time()?);
        sleep(time).await;
        let (to_us, cpu_after) = (now_us(), candidate.cpu_time()?);
        sleep(ARRIVE).await;
        let reports = loads.report().await?;
        let closed = reports.iter().flat_map(|report| report.closed.values()).sum();
        let delays = window::delays(reports, &candidate.ticks(), (from_us, to_us), expected);
        let frames = u32::try_from(delays.frames.max(1))?;
        let cpu = cpu_after.saturating_sub(cpu_before);
        Ok(Measurement {
            subscribers: expected,
            closed,
            cpu_ms_per_frame: cpu.as_secs_f64() * 1_000.0 / f64::from(frames),
            rss_bytes: candidate.rss_bytes()?,
            delays,
            ..Measurement::default()
        })
    }
}

/// Stores messages and returns one of them as JSON.
async fn fill(env: &TestEnvironment, content: usize) -> Result<String> {
    let config = StoreConfig { uri: env.mongo_uri().parse()?, database: env.database().parse()? };
    let operation_timeout = Duration::from_mins(1);
    let settings =
        StoreSettings { operation_timeout, ..StoreSettings::new(config, "bench-fanout") };
    let store = Store::new(settings).await?;
    store.ensure_indexes().await?;
    let command = || -> Result<CreateCommand> {
        Ok(CreateCommand {
            command_id: CommandId::generate(),
            message_id: MessageId::generate(),
            from_user_id: "alice".to_owned().try_into()?,
            to_user_id: "bob".to_owned().try_into()?,
            content: "x".repeat(content).try_into()?,
            publish_timestamp: Timestamp::now(),
        })
    };
    for _ in 0..MESSAGES / BATCH {
        let commands: Vec<_> = (0..BATCH).map(|_| command()).collect::<Result<_>>()?;
        store.create_many(&commands).await?;
    }
    let sample = command()?;
    Ok(serde_json::to_string(&Message {
        id: sample.message_id,
        from_user_id: sample.from_user_id,
        to_user_id: sample.to_user_id,
        content: sample.content,
        publish_timestamp: sample.publish_timestamp,
        edit_timestamp: None,
    })?)
}
