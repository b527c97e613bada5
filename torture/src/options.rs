//! What a run can be told.

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::plan::Kind;

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
    /// Runs workers that answer before they write, to show that they are found out
    #[arg(long)]
    pub lie: bool,
    /// Seconds within which writes must succeed after a fault. The system promises 10; a busy
    /// machine of two cores that also runs the load may need more
    #[arg(long, value_name = "N", default_value_t = 25)]
    pub recovery_secs: u64,
    /// The same after a black hole, where it promises 25
    #[arg(long, value_name = "N", default_value_t = 40)]
    pub black_hole_recovery_secs: u64,
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
            lie: false,
            recovery_secs: 25,
            black_hole_recovery_secs: 40,
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
