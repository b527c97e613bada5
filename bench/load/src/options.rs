//! Options of the command line.

use clap::{Args, Parser, Subcommand};

use crate::operation::Operation;

/// Measures this system, its peer and their limits side by side
#[derive(Debug, Parser)]
#[command(
    name = "bench-load",
    bin_name = "cargo xtask bench",
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) run: RunOptions,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Compare two runs
    Compare(CompareOptions),
    /// Measure the system at growing numbers of stored messages
    Scale(ScaleOptions),
    /// Offer the system twice the load that saturates it
    Overload(OverloadOptions),
}

/// Options of `scale`.
#[derive(Args, Debug)]
pub(crate) struct ScaleOptions {
    /// Numbers of stored messages, separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values_t = [10_000, 1_000_000, 10_000_000])]
    pub(crate) messages: Vec<u64>,
    /// MongoDB's cache; 10 million messages took 8.6 GiB
    #[arg(long, value_name = "GB", default_value_t = 10.0)]
    pub(crate) cache_gb: f32,
    /// Seconds of each kind of request
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) seconds: u64,
    #[command(flatten)]
    pub(crate) common: CommonOptions,
}

/// Options of `overload`.
#[derive(Args, Debug)]
pub(crate) struct OverloadOptions {
    /// Seconds of overload
    #[arg(long, value_name = "N", default_value_t = 60)]
    pub(crate) seconds: u64,
    /// Connections; more than the writes that can wait in a gateway
    #[arg(long, value_name = "N", default_value_t = 8_000)]
    pub(crate) connections: u16,
    #[command(flatten)]
    pub(crate) common: CommonOptions,
}

/// Options of `compare`.
#[derive(Args, Debug)]
pub(crate) struct CompareOptions {
    /// The earlier run: its name under target/bench, or its directory
    pub(crate) before: String,
    /// The later run
    pub(crate) after: String,
}

/// Options of the standard run.
#[derive(Args, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct RunOptions {
    /// Take about two minutes: short cells, and fewer connection counts for the peer
    #[arg(long)]
    pub(crate) quick: bool,
    /// Seconds of each cell [default: 10; 2 with --quick]
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Operations, separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    only: Vec<Operation>,
    /// Connections, separated by commas [default: 16,64,256, and for POST also 1]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    connections: Option<Vec<u16>>,
    /// Messages that are stored before the load
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub(crate) messages: u64,
    /// Leave the peer out
    #[arg(long)]
    pub(crate) no_peer: bool,
    /// Leave the limits out
    #[arg(long)]
    pub(crate) no_limits: bool,
    /// Leave the constant rates out
    #[arg(long)]
    pub(crate) no_rates: bool,
    /// Leave the idle figures out
    #[arg(long)]
    pub(crate) no_idle: bool,
    #[command(flatten)]
    pub(crate) common: CommonOptions,
}

/// Options of all commands that run the system.
#[derive(Args, Clone, Debug)]
pub(crate) struct CommonOptions {
    /// The run's name; the time by default
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// A setting of the services, as in `--set PUBLISH_CONNECTIONS=4`; may be repeated
    #[arg(long = "set", value_name = "VARIABLE=VALUE", value_parser = setting)]
    pub(crate) settings: Vec<(String, String)>,
}

impl RunOptions {
    pub(crate) fn seconds(&self) -> u64 {
        self.seconds.unwrap_or(if self.quick { 2 } else { 10 })
    }

    pub(crate) fn operations(&self) -> Vec<Operation> {
        if self.only.is_empty() { Operation::ALL.to_vec() } else { self.only.clone() }
    }

    /// Returns the numbers of connections for an operation on this system.
    pub(crate) fn connections(&self, operation: Operation) -> Vec<u16> {
        match &self.connections {
            Some(connections) => connections.clone(),
            None if operation == Operation::Post => vec![1, 16, 64, 256],
            None => vec![16, 64, 256],
        }
    }

    /// Returns the same for the peer, of which every worker count is measured.
    pub(crate) fn peer_connections(&self, operation: Operation) -> Vec<u16> {
        match &self.connections {
            None if self.quick => vec![64, 256],
            _ => self.connections(operation),
        }
    }
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("VARIABLE=VALUE is expected")?;
    Ok((name.to_owned(), value.to_owned()))
}
