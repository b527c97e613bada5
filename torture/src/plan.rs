//! The plan of faults, which follows from the seed alone.

use std::{fmt, time::Duration};

use clap::ValueEnum;
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};

/// Number of replicas of each service.
pub(crate) const REPLICAS: usize = 2;

/// The kinds of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum Kind {
    /// `kill -9` of a gateway, and a later start, as by a supervisor.
    KillGateway,
    /// `kill -9` of a worker.
    KillWorker,
    /// `kill -9` of a broadcaster.
    KillBroadcaster,
    /// `kill -9` of the broker.
    KillBroker,
    /// `kill -9` of MongoDB.
    KillMongod,
    /// `SIGSTOP` of a gateway for some seconds.
    FreezeGateway,
    /// `SIGSTOP` of a worker.
    FreezeWorker,
    /// `SIGSTOP` of a broadcaster.
    FreezeBroadcaster,
    /// `SIGSTOP` of the broker.
    FreezeBroker,
    /// `SIGSTOP` of MongoDB.
    FreezeMongod,
    /// A link's connections are reset, again and again.
    Cut,
    /// A link becomes slow.
    Delay,
    /// A link accepts data and delivers nothing. In the end it delivers what it has accepted, or it delivers only
    /// new connections' data, and the old ones stay silent forever.
    BlackHole,
    /// The broker's memory alarm, which blocks publishers.
    Alarm,
    /// The queue of commands is at its limit, and no worker consumes.
    FullQueue,
    /// Redeliveries, several times and in another order, to restarted workers.
    Replay,
    /// Deliveries that cannot be applied.
    Poison,
    /// The log of changes gets a new epoch, so that every event subscriber must start over.
    NewEpoch,
}

impl Kind {
    /// Returns its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::KillGateway => "kill-gateway",
            Self::KillWorker => "kill-worker",
            Self::KillBroadcaster => "kill-broadcaster",
            Self::KillBroker => "kill-broker",
            Self::KillMongod => "kill-mongod",
            Self::FreezeGateway => "freeze-gateway",
            Self::FreezeWorker => "freeze-worker",
            Self::FreezeBroadcaster => "freeze-broadcaster",
            Self::FreezeBroker => "freeze-broker",
            Self::FreezeMongod => "freeze-mongod",
            Self::Cut => "cut",
            Self::Delay => "delay",
            Self::BlackHole => "black-hole",
            Self::Alarm => "alarm",
            Self::FullQueue => "full-queue",
            Self::Replay => "replay",
            Self::Poison => "poison",
            Self::NewEpoch => "new-epoch",
        }
    }

    /// Returns true if the broker must answer to cause it.
    fn asks_the_broker(self) -> bool {
        matches!(self, Self::Alarm | Self::FullQueue | Self::Replay | Self::Poison)
    }

    fn strikes_the_broker(self) -> bool {
        matches!(self, Self::KillBroker | Self::FreezeBroker) || self.asks_the_broker()
    }

    /// Returns true if both can be active at once.
    fn goes_with(self, other: Self) -> bool {
        // Faults of one row stop the same process, or need it.
        let rows: [&[Self]; 4] = [
            &[Self::KillWorker, Self::FreezeWorker, Self::FullQueue, Self::Replay],
            &[Self::KillGateway, Self::FreezeGateway],
            &[Self::KillBroadcaster, Self::FreezeBroadcaster],
            &[Self::KillMongod, Self::FreezeMongod, Self::NewEpoch],
        ];
        let collide = rows.iter().any(|row| row.contains(&self) && row.contains(&other))
            || (self.strikes_the_broker() && other.strikes_the_broker());
        self != other && !collide
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A link between two processes, through a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// From the clients to a gateway.
    ClientsToGateway(usize),
    /// From a subscriber to its broadcaster.
    SubscriberToBroadcaster(usize),
    GatewayToBroker(usize),
    GatewayToMongod(usize),
    WorkerToBroker(usize),
    WorkerToMongod(usize),
    BroadcasterToBroker(usize),
    BroadcasterToMongod(usize),
}

/// One fault and its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    /// Replica, for faults of services.
    pub(crate) replica: usize,
    /// Link, for faults of links.
    pub(crate) link: Link,
    /// Seed of its own choices.
    pub(crate) seed: u64,
}

impl Fault {
    /// Returns true if connections in a black hole stay silent forever.
    pub(crate) fn strands(self) -> bool {
        self.seed.is_multiple_of(2)
    }

    /// Returns the gateway that this kills. It need not answer requests that were in flight, or that come before
    /// it is back.
    pub(crate) fn kills_gateway(self) -> Option<usize> {
        (self.kind == Kind::KillGateway).then_some(self.replica)
    }

    /// Returns the gateway whose clients have to wait: it is frozen, or the link to it is disturbed.
    pub(crate) fn silences_gateway(self) -> Option<usize> {
        match (self.kind, self.link) {
            (Kind::FreezeGateway, _) => Some(self.replica),
            (Kind::Cut | Kind::Delay | Kind::BlackHole, Link::ClientsToGateway(gateway)) => {
                Some(gateway)
            }
            _ => None,
        }
    }

    /// Returns true if the subscriber of this broadcaster may get no frames: its broadcaster is down, the link to
    /// it is disturbed, or a dependency of all broadcasters is down.
    pub(crate) fn silences_subscriber(self, broadcaster: usize) -> bool {
        match self.kind {
            Kind::KillBroadcaster | Kind::FreezeBroadcaster => self.replica == broadcaster,
            Kind::KillBroker
            | Kind::FreezeBroker
            | Kind::KillMongod
            | Kind::FreezeMongod
            | Kind::Alarm => true,
            Kind::Cut | Kind::Delay | Kind::BlackHole => match self.link {
                Link::SubscriberToBroadcaster(number) => number == broadcaster,
                Link::BroadcasterToBroker(_) | Link::BroadcasterToMongod(_) => true,
                _ => false,
            },
            _ => false,
        }
    }
}

/// One or two faults at once.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// Time without faults before it.
    pub(crate) quiet: Duration,
    pub(crate) faults: Vec<Fault>,
    /// Duration of the faults.
    pub(crate) lasts: Duration,
}

/// An endless plan. Kinds come from a shuffled deck, so that each occurs about equally often.
pub(crate) struct Plan {
    kinds: Vec<Kind>,
    deck: Vec<Kind>,
    rng: StdRng,
}

impl Plan {
    pub(crate) fn new(seed: u64, kinds: Vec<Kind>) -> Self {
        Self { kinds, deck: Vec::new(), rng: StdRng::seed_from_u64(seed) }
    }

    /// Returns the next step; none if there are no kinds.
    pub(crate) fn next(&mut self) -> Option<Step> {
        let first = self.deal()?;
        let mut faults = vec![self.fault(first)];
        if self.rng.random_bool(0.35) {
            let second = self.deck.iter().rposition(|kind| kind.goes_with(first));
            if let Some(kind) = second.map(|place| self.deck.remove(place)) {
                faults.push(self.fault(kind));
            }
        }
        // Mostly short; sometimes long enough for heartbeats to time out.
        let lasts_ms = if self.rng.random_bool(0.1) {
            self.rng.random_range(8_000..=22_000)
        } else {
            self.rng.random_range(300..=6_000)
        };
        Some(Step {
            quiet: Duration::from_millis(self.rng.random_range(200..=1_500)),
            faults,
            lasts: Duration::from_millis(lasts_ms),
        })
    }

    fn deal(&mut self) -> Option<Kind> {
        if self.deck.is_empty() {
            self.deck.clone_from(&self.kinds);
            self.deck.shuffle(&mut self.rng);
        }
        self.deck.pop()
    }

    fn fault(&mut self, kind: Kind) -> Fault {
        let place = self.rng.random_range(0..REPLICAS);
        let link = match self.rng.random_range(0..8) {
            0 => Link::ClientsToGateway(place),
            1 => Link::GatewayToBroker(place),
            2 => Link::GatewayToMongod(place),
            3 => Link::WorkerToBroker(place),
            4 => Link::WorkerToMongod(place),
            5 => Link::BroadcasterToBroker(place),
            6 => Link::BroadcasterToMongod(place),
            _ => Link::SubscriberToBroadcaster(place),
        };
        Fault { kind, replica: self.rng.random_range(0..REPLICAS), link, seed: self.rng.random() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::KillGateway
            | Kind::KillWorker
            | Kind::KillBroadcaster
            | Kind::FreezeGateway
            | Kind::FreezeWorker
            | Kind::FreezeBroadcaster => {
                write!(f, "{} {}", self.kind, self.replica)
            }
            Kind::BlackHole if self.strands() => {
                write!(f, "{} {} (silent for good)", self.kind, self.link)
            }
            Kind::Cut | Kind::Delay | Kind::BlackHole => write!(f, "{} {}", self.kind, self.link),
            kind => kind.fmt(f),
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientsToGateway(number) => write!(f, "clients–gateway {number}"),
            Self::SubscriberToBroadcaster(number) => {
                write!(f, "subscriber {number}–broadcaster {number}")
            }
            Self::GatewayToBroker(number) => write!(f, "gateway {number}–broker"),
            Self::GatewayToMongod(number) => write!(f, "gateway {number}–mongod"),
            Self::WorkerToBroker(number) => write!(f, "worker {number}–broker"),
            Self::WorkerToMongod(number) => write!(f, "worker {number}–mongod"),
            Self::BroadcasterToBroker(number) => write!(f, "broadcaster {number}–broker"),
            Self::BroadcasterToMongod(number) => write!(f, "broadcaster {number}–mongod"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(seed: u64) -> Vec<String> {
        let mut plan = Plan::new(seed, Kind::value_variants().to_vec());
        (0..200).map(|_| format!("{:?}", plan.next().unwrap())).collect()
    }

    #[test]
    fn a_seed_makes_the_same_plan_each_time_and_another_seed_another() {
        assert_eq!(steps(7), steps(7));
        assert_ne!(steps(7), steps(8));
    }

    #[test]
    fn every_kind_comes_and_no_pair_excludes_itself() {
        let mut plan = Plan::new(1, Kind::value_variants().to_vec());
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let step = plan.next().unwrap();
            seen.extend(step.faults.iter().map(|fault| fault.kind));
            if let [first, second] = step.faults[..] {
                assert!(first.kind.goes_with(second.kind));
            }
        }
        assert_eq!(seen.len(), Kind::value_variants().len());
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        for kind in Kind::value_variants() {
            assert_eq!(kind.to_possible_value().unwrap().get_name(), kind.name());
        }
    }

    #[test]
    fn without_kinds_there_is_no_step() {
        assert!(Plan::new(1, Vec::new()).next().is_none());
    }
}
