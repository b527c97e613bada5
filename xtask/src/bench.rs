//! `cargo xtask bench …`: measurements, each side by side with a limit and a peer in one run.

mod fanout;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// How fast a frame reaches many WebSocket subscribers
    Fanout(fanout::Options),
}

/// Measures.
pub(crate) async fn run(bench: &Bench) -> Result<ExitCode> {
    match bench {
        Bench::Fanout(options) => fanout::run(options).await,
    }
}
