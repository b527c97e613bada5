//! What a run can be told.

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::{checker::Limits, plan::Kind};

/// What the system promises.
const RECOVERY_SECS: u64 = 10;
const BLACK_HOLE_RECOVERY_SECS: u64 = 25;
/// "Within 2 s" is measured by a client on a machine that does everything else, too.
const ANSWER_SLACK_SECS: u64 = 1;
/// Another broadcaster draws within this.
const FRAME_GAP_SECS: u64 = 5;

/// How long, how much, which faults, how strict.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Seconds of load and faults; the default is 60 where --operations is not given
    #[arg(long, value_name = "N", conflicts_with = "operations")]
    pub seconds: Option<u64>,
    /// Requests after which the load ends
    #[arg(long, value_name = "N")]
    pub operations: Option<u64>,
    /// Repeats the plan of the run that printed this seed
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// Clients that ask at the same time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub clients: u16,
    /// Kinds of fault, separated by commas; a beginning such as `kill` names all that begin so;
    /// `all` and `none` are what they say
    #[arg(long, value_name = "LIST", default_value = "all")]
    pub faults: String,
    /// Runs workers that answer these commands before they apply them, to show that they are found out
    #[arg(long, value_name = "COMMANDS", num_args = 0..=1, default_missing_value = "creates")]
    pub lie: Option<Lie>,
    /// Seconds within which writes must succeed, and frames come, after a fault. A busy machine may
    /// need more; the promise is the default, here and below
    #[arg(long, value_name = "N", default_value_t = RECOVERY_SECS)]
    pub recovery_secs: u64,
    /// The same after a black hole
    #[arg(long, value_name = "N", default_value_t = BLACK_HOLE_RECOVERY_SECS)]
    pub black_hole_recovery_secs: u64,
    /// Seconds that an answer may take beyond the 2 that are promised and the wait that was asked for
    #[arg(long, value_name = "N", default_value_t = ANSWER_SLACK_SECS)]
    pub answer_slack_secs: u64,
    /// Seconds between two frames at most, while what the broadcasters need is there
    #[arg(long, value_name = "N", default_value_t = FRAME_GAP_SECS)]
    pub frame_gap_secs: u64,
}

/// Which commands a lying worker answers before it applies them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Lie {
    /// Those that create a message.
    Creates,
    /// Those that edit one.
    Edits,
    /// Those that delete one.
    Deletions,
}

impl Lie {
    /// The variable that tells a lying worker.
    pub const VARIABLE: &str = "LIE_ABOUT";

    /// As `--lie` takes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Creates => "creates",
            Self::Edits => "edits",
            Self::Deletions => "deletions",
        }
    }
}

impl Options {
    /// Defaults, for tests that change some.
    #[must_use]
    pub fn with_seed(seed: u64) -> Self {
        Self {
            seconds: None,
            operations: None,
            seed: Some(seed),
            clients: 16,
            faults: "all".to_owned(),
            lie: None,
            recovery_secs: RECOVERY_SECS,
            black_hole_recovery_secs: BLACK_HOLE_RECOVERY_SECS,
            answer_slack_secs: ANSWER_SLACK_SECS,
            frame_gap_secs: FRAME_GAP_SECS,
        }
    }

    /// How long the load may go on; with a number of operations there is still an end.
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

    /// The kinds of fault that it names.
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
                anyhow::bail!("no fault is called {name}; there are {}", all.join(", "));
            }
            kinds.extend(named);
        }
        Ok(kinds)
    }
}
