//! Options of a run.

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::{checker::Limits, plan::Kind};

/// Promised recovery times.
const RECOVERY_SECS: u64 = 10;
const BLACK_HOLE_RECOVERY_SECS: u64 = 25;
/// Clients measure "within 2 s" on the machine that runs everything else, too.
const ANSWER_SLACK_SECS: u64 = 1;
/// Promised time until another broadcaster is the leader.
const FRAME_GAP_SECS: u64 = 5;
/// Time in which event subscribers whose connection a black hole has swallowed notice that, resume and catch up.
const ARRIVAL_SECS: u64 = 60;

/// Duration, load, faults and limits.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Seconds of load and faults; the default is 60 where --operations is not given
    #[arg(long, value_name = "N", conflicts_with = "operations")]
    pub seconds: Option<u64>,
    /// Requests after which the load ends
    #[arg(long, value_name = "N")]
    pub operations: Option<u64>,
    /// Repeat the plan of the run that printed this seed
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// Number of concurrent clients
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub clients: u16,
    /// Kinds of faults, separated by commas; a prefix such as `kill` names all kinds that begin with it; also
    /// `all` and `none`
    #[arg(long, value_name = "LIST", default_value = "all")]
    pub faults: String,
    /// Run workers that reply to these commands before they apply them, or keep changes out of the log, to show that the
    /// checker finds them
    #[arg(long, value_name = "COMMANDS", num_args = 0..=1, default_missing_value = "creates")]
    pub lie: Option<Lie>,
    /// Require tokens, and let an intruder try what they do not allow
    #[arg(long)]
    pub auth: bool,
    /// Seconds within which writes succeed and frames come after a fault. The default is the promise, here and
    /// below; a busy machine may need more
    #[arg(long, value_name = "N", default_value_t = RECOVERY_SECS)]
    pub recovery_secs: u64,
    /// Seconds of the same after a black hole
    #[arg(long, value_name = "N", default_value_t = BLACK_HOLE_RECOVERY_SECS)]
    pub black_hole_recovery_secs: u64,
    /// Seconds that a response may take beyond the promised 2 s and the requested wait
    #[arg(long, value_name = "N", default_value_t = ANSWER_SLACK_SECS)]
    pub answer_slack_secs: u64,
    /// Maximum seconds between two frames while the broadcasters' dependencies are up
    #[arg(long, value_name = "N", default_value_t = FRAME_GAP_SECS)]
    pub frame_gap_secs: u64,
    /// Maximum seconds from the end of the load until every event subscriber has every change
    #[arg(long, value_name = "N", default_value_t = ARRIVAL_SECS)]
    pub arrival_secs: u64,
}

/// Lies of a worker: it replies to these commands before it applies them, or leaves out events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Lie {
    /// Creates.
    Creates,
    /// Edits.
    Edits,
    /// Deletions.
    Deletions,
    /// None: the worker keeps the changes of some messages out of the log.
    Events,
}

impl Lie {
    /// Variable that a lying worker reads.
    pub const VARIABLE: &str = "LIE_ABOUT";

    /// Returns its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Creates => "creates",
            Self::Edits => "edits",
            Self::Deletions => "deletions",
            Self::Events => "events",
        }
    }
}

impl Options {
    /// Returns the defaults, for tests that change some.
    #[must_use]
    pub fn with_seed(seed: u64) -> Self {
        Self {
            seconds: None,
            operations: None,
            seed: Some(seed),
            clients: 16,
            faults: "all".to_owned(),
            lie: None,
            auth: false,
            recovery_secs: RECOVERY_SECS,
            black_hole_recovery_secs: BLACK_HOLE_RECOVERY_SECS,
            answer_slack_secs: ANSWER_SLACK_SECS,
            frame_gap_secs: FRAME_GAP_SECS,
            arrival_secs: ARRIVAL_SECS,
        }
    }

    /// Returns the maximum duration of the load, which also exists with a number of operations.
    pub(crate) fn load_limit(&self) -> Duration {
        match (self.seconds, self.operations) {
            (Some(seconds), _) => Duration::from_secs(seconds),
            (None, None) => Duration::from_mins(1),
            (None, Some(_)) => Duration::from_hours(6),
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            answer_slack: Duration::from_secs(self.answer_slack_secs),
            frame_gap: Duration::from_secs(self.frame_gap_secs),
        }
    }

    /// Returns the kinds of faults that it names.
    pub(crate) fn kinds(&self) -> anyhow::Result<Vec<Kind>> {
        let mut kinds = Vec::new();
        for name in self.faults.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let named: Vec<Kind> = match name {
                "none" => continue,
                "all" => Kind::value_variants().to_vec(),
                prefix => Kind::value_variants()
                    .iter()
                    .copied()
                    .filter(|kind| kind.name().starts_with(prefix))
                    .collect(),
            };
            if named.is_empty() {
                let all: Vec<&str> =
                    Kind::value_variants().iter().map(|kind| kind.name()).collect();
                anyhow::bail!("unknown fault {name}; the faults are {}", all.join(", "));
            }
            kinds.extend(named);
        }
        Ok(kinds)
    }
}
