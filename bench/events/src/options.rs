//! Options of a run.

use std::{fmt, path::PathBuf};

use clap::{Parser, ValueEnum};
use serde::Serialize;

/// Measures how soon events reach their subscribers
#[derive(Clone, Debug, Parser)]
#[command(name = "bench-events", bin_name = "cargo xtask bench events")]
pub(crate) struct Options {
    /// Parts to measure, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', default_value = "arrival,resume,writes")]
    pub(crate) what: Vec<What>,
    /// Ways of following events, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', default_value = "websocket,sse")]
    pub(crate) transports: Vec<Transport>,
    /// Number of subscribers, each of whom follows a user of its own
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) subscribers: usize,
    /// Writes a second, separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1000,5000")]
    pub(crate) rates: Vec<u32>,
    /// Seconds of each measurement
    #[arg(long, value_name = "N", default_value_t = 12)]
    pub(crate) seconds: u64,
    /// Connections of the writes
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub(crate) connections: usize,
    /// Numbers of storage workers, separated by commas; all but the writes alone are measured with the first
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1,3,8")]
    pub(crate) workers: Vec<usize>,
    /// Number of subscribers that resume at once
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub(crate) resuming: usize,
    /// Numbers of changes over which they resume, separated by commas; the newest 65,536 are in memory
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "60000,100000")]
    pub(crate) changes: Vec<u64>,
    /// Directory for the results
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    pub(crate) out: PathBuf,
}

/// Parts of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// Time from a write's answer to the arrival of its event, at each rate, and memory for each subscriber
    Arrival,
    /// Time until subscribers that resume at once have caught up
    Resume,
    /// Writes as fast as the connections allow, without subscribers, with each number of storage workers
    Writes,
}

/// Ways of following events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Transport {
    /// A WebSocket
    Websocket,
    /// Server-sent events
    Sse,
}

impl fmt::Display for Transport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Websocket => "WebSocket",
            Self::Sse => "SSE",
        })
    }
}
