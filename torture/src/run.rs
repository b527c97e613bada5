//! One run: load and faults, healing, draining and checking.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::{Context, Result};
use testkit::{IDLE_CONNECTION_LIMIT, Progress};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    checker::{Disturbance, Streams, Watch, check, frames::worst_gap, latency::worst_overtime},
    client::Client,
    event_subscribers::EventSubscribers,
    faults::{heal, strike},
    history::History,
    intruder::intrude,
    options::Options,
    plan::{Fault, Kind, Plan, Step},
    probe::{not_ready, recovered},
    replays::Replays,
    report::{Recovery, Report},
    settle::settle,
    storage_formats::mix,
    subscribers::listen,
    system::System,
    tokens::Tokens,
    workload::{EVERYONE, Shared, Worker},
};

/// Factor by which the run waits longer for a recovery that has missed its limit, to report its real duration.
const OVERTIME: u32 = 3;

/// The sender of the messages that show a recovery.
const PROBE: &str = "probe";

/// Interval of progress lines in a run without faults.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// Runs the load and the plan, then checks the history. `lying_worker`: the program for [`Options::lie`].
pub async fn run(
    options: &Options,
    lying_worker: PathBuf,
    progress: &dyn Progress,
) -> Result<Report> {
    let seed = options.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    progress.say(&format!("seed {seed}"));
    progress.say("starting RabbitMQ, MongoDB, and two of each service");
    let liar = options.lie.map(|lie| (lying_worker, lie));
    let tokens = if options.auth { Tokens::start().await? } else { Tokens::default() };
    let mut system = System::start(liar, tokens).await?;
    let history = Arc::new(History::default());
    let shared = Arc::new(Shared::new(options.operations.unwrap_or(u64::MAX)));
    let senders = senders(options);
    let event_subscribers = EventSubscribers::start(&system, &history, seed, &senders).await?;
    let mut clients = start_clients(options, seed, &system, &history, &shared)?;
    let mut subscribers = listen(&system, &history, &shared.stop);
    let intruder = intrude(&system, &history, seed, shared.stop.clone())?;
    let formats = mix(&system, shared.stop.clone());
    let mut torture = Torture {
        plan: Plan::new(seed, options.kinds()?),
        replays: Replays::new(system.env.management().clone()),
        recoveries: Vec::new(),
        disturbances: Vec::new(),
        epochs: Vec::new(),
        options,
        history: &history,
        shared: &shared,
        progress,
        ends: Instant::now() + options.load_limit(),
    };
    torture.until_the_end(&mut system, &clients).await?;
    let Torture { replays, recoveries, disturbances, epochs, .. } = torture;
    shared.stop.cancel();
    progress.say("waiting for the clients to finish");
    let until = history.now();
    while subscribers.join_next().await.is_some() {}
    while clients.join_next().await.is_some() {}
    let intrusions = intruder.await.context("the intruder failed")?;
    let rewritten = formats.await.context("rewriting documents failed")?;
    let lasted = history.now();
    let watch = Watch {
        subscribers: system.broadcasters.len(),
        frames: history.frames().clone(),
        until,
        disturbances,
        limits: options.limits(),
    };
    progress.say("draining the queue and reading all messages");
    let mut aftermath = settle(&system, &history, &replays, watch).await?;
    progress.say("waiting for the event subscribers to have every change");
    let limit = Duration::from_secs(options.arrival_secs);
    let followed = event_subscribers.finish(&history, &aftermath.conversations, limit).await;
    let arrivals = std::mem::take(&mut *history.arrivals());
    aftermath.streams = Streams { followed, arrivals, epochs };
    let operations = history.operations().clone();
    progress.say("checking the history");
    let mut violations = check(&operations, &aftermath);
    violations.extend(intrusions);
    let watch = aftermath.watch;
    Ok(Report {
        seed,
        lasted,
        recoveries,
        replayed: replays.replayed,
        rewritten,
        frames: watch.frames.len(),
        worst_gap: worst_gap(&operations, &watch),
        worst_overtime: worst_overtime(&operations, &watch),
        operations,
        streams: aftermath.streams,
        violations,
    })
}

fn start_clients(
    options: &Options,
    seed: u64,
    system: &System,
    history: &Arc<History>,
    shared: &Arc<Shared>,
) -> Result<JoinSet<()>> {
    let mut clients = JoinSet::new();
    for number in 0..options.clients {
        let name = client_name(number);
        // Some act by their scopes, the others by what is their own.
        let gateways =
            if number % 4 == 0 { system.apis_of(&name)? } else { system.plain_apis_of(&name)? };
        let client = Client { name, gateways, history: history.clone() };
        let everyone = Client { gateways: system.plain_apis_of(EVERYONE)?, ..client.clone() };
        let seed = seed.wrapping_mul(1_000).wrapping_add(u64::from(number) + 1);
        clients.spawn(Worker::new(client, everyone, seed, Arc::clone(shared)).work());
    }
    Ok(clients)
}

fn client_name(number: u16) -> String {
    format!("client-{number}")
}

/// Returns everyone who sends messages.
fn senders(options: &Options) -> Vec<String> {
    let others = [EVERYONE, PROBE].map(ToOwned::to_owned);
    (0..options.clients).map(client_name).chain(others).collect()
}

/// Returns the disturbances by faults that struck, were healed and recovered from at these times.
fn disturbances(
    faults: &[Fault],
    broadcasters: usize,
    [struck, healed, recovered]: [Duration; 3],
) -> [Disturbance; 3] {
    let disturbance = |until| Disturbance { from: struck, until, ..Disturbance::default() };
    let killed = faults.iter().filter_map(|fault| fault.kills_gateway()).collect();
    let silenced = faults.iter().filter_map(|fault| fault.silences_gateway()).collect();
    let subscribers = (0..broadcasters)
        .filter(|subscriber| faults.iter().any(|fault| fault.silences_subscriber(*subscriber)))
        .collect();
    // A client may still use a connection that a black hole has swallowed.
    let forgotten = recovered + IDLE_CONNECTION_LIMIT;
    [
        Disturbance { gateways: killed, ..disturbance(healed) },
        Disturbance { gateways: silenced, ..disturbance(forgotten) },
        Disturbance { subscribers, ..disturbance(recovered) },
    ]
}

struct Torture<'a> {
    plan: Plan,
    replays: Replays,
    recoveries: Vec<Recovery>,
    disturbances: Vec<Disturbance>,
    /// Times at which the log of changes got a new epoch.
    epochs: Vec<Duration>,
    options: &'a Options,
    history: &'a Arc<History>,
    shared: &'a Shared,
    progress: &'a dyn Progress,
    ends: Instant,
}

impl Torture<'_> {
    async fn until_the_end(&mut self, system: &mut System, clients: &JoinSet<()>) -> Result<()> {
        while !self.is_over(clients) {
            let Some(step) = self.plan.next() else {
                self.tell("");
                self.pass(REPORT_EVERY, clients).await;
                continue;
            };
            self.pass(step.quiet, clients).await;
            if self.is_over(clients) {
                break;
            }
            self.step(system, step).await?;
            if self.recoveries.last().is_some_and(|last| last.took.is_none()) {
                self.progress.say("the system has not recovered: the run ends here");
                break;
            }
        }
        Ok(())
    }

    /// Returns true if the time is up, or every client has stopped because the budget is spent.
    fn is_over(&self, clients: &JoinSet<()>) -> bool {
        let spent = self.shared.budget.load(Ordering::Relaxed) == 0;
        Instant::now() >= self.ends || spent || clients.is_empty()
    }

    async fn pass(&self, time: Duration, clients: &JoinSet<()>) {
        let until = self.ends.min(Instant::now() + time);
        while Instant::now() < until && !self.is_over(clients) {
            sleep(Duration::from_millis(50).min(until - Instant::now())).await;
        }
    }

    async fn step(&mut self, system: &mut System, step: Step) -> Result<()> {
        let faults: Vec<(Kind, String)> =
            step.faults.iter().map(|fault| (fault.kind, fault.to_string())).collect();
        let names: Vec<&str> = faults.iter().map(|(_, name)| name.as_str()).collect();
        let names = names.join(" + ");
        self.tell(&format!("{names} for {:.1?}", step.lasts));
        let struck = self.history.now();
        let renewals = step.faults.iter().filter(|fault| fault.kind == Kind::NewEpoch);
        self.epochs.extend(renewals.map(|_| struck));
        let mut active = Vec::new();
        for &fault in &step.faults {
            let struck = strike(system, &mut self.replays, fault).await;
            active.push(struck.with_context(|| format!("{fault} cannot strike"))?);
        }
        sleep(step.lasts).await;
        let since = heal(system, &mut self.replays, active).await;
        let since = since.with_context(|| format!("{names} cannot be healed"))?;
        let healed = self.history.now();
        let limit = self.limit(&faults);
        let gateways = system.apis_of(PROBE)?;
        let probe = Client { name: PROBE.to_owned(), gateways, history: Arc::clone(self.history) };
        let mut unready = Vec::new();
        let mut took = recovered(system, &probe, since, since + limit).await?;
        if took.is_none() {
            unready = not_ready(system).await;
            took = recovered(system, &probe, since, since + limit * OVERTIME).await?;
        }
        self.tell(&match took {
            Some(took) => format!("recovered in {took:.1?}"),
            None => format!("NOT RECOVERED in {:?}", limit * OVERTIME),
        });
        let times = [struck, healed, self.history.now()];
        self.disturbances.extend(disturbances(&step.faults, system.broadcasters.len(), times));
        self.recoveries.push(Recovery { struck, healed, faults, took, limit, unready });
        Ok(())
    }

    fn limit(&self, faults: &[(Kind, String)]) -> Duration {
        let black_hole = faults.iter().any(|(kind, _)| *kind == Kind::BlackHole);
        Duration::from_secs(if black_hole {
            self.options.black_hole_recovery_secs.max(self.options.recovery_secs)
        } else {
            self.options.recovery_secs
        })
    }

    fn tell(&self, what: &str) {
        let count = self.history.operations().len();
        self.progress.say(&format!("{count:>7} operations  {what}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Link;

    fn excused(kind: Kind, link: Link) -> Vec<(Vec<usize>, Vec<usize>, u64)> {
        let fault = Fault { kind, replica: 1, link, seed: 0 };
        let times = [10, 20, 30].map(Duration::from_secs);
        let some = disturbances(&[fault], 2, times).into_iter();
        let some = some.filter(|it| !it.gateways.is_empty() || !it.subscribers.is_empty());
        some.map(|it| (it.gateways, it.subscribers, it.until.as_secs())).collect()
    }

    #[test]
    fn only_clients_that_a_fault_disturbs_are_excused() {
        let elsewhere = Link::WorkerToMongod(0);
        assert_eq!(excused(Kind::KillGateway, elsewhere), [(vec![1], vec![], 20)]);
        assert_eq!(excused(Kind::FreezeGateway, elsewhere), [(vec![1], vec![], 35)]);
        assert_eq!(excused(Kind::Cut, Link::ClientsToGateway(0)), [(vec![0], vec![], 35)]);
        assert_eq!(excused(Kind::KillMongod, elsewhere), [(vec![], vec![0, 1], 30)]);
        let subscriber = Link::SubscriberToBroadcaster(1);
        assert_eq!(excused(Kind::BlackHole, subscriber), [(vec![], vec![1], 30)]);
        assert_eq!(excused(Kind::Delay, elsewhere), []);
    }
}
