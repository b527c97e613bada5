//! The program that `cargo xtask bench fanout` runs. It measures how long a frame takes to reach the
//! last of many subscribers, in one run for the broadcaster, for a bare loop of write calls, which
//! is the limit, and for a FastAPI service that does the same.
//!
//! The load comes from processes of its own, which are this program again.

mod bare;
mod candidate;
mod descriptors;
mod load;
mod loads;
mod plot;
mod report;
mod run;
mod window;

use std::{io::Write, process::ExitCode};

use clap::{Parser, Subcommand};
use testkit::Steps;

/// Measures the fan-out of frames to many subscribers
#[derive(Parser)]
#[command(name = "bench-fanout", bin_name = "cargo xtask bench fanout")]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    options: run::Options,
}

/// Roles of this program in processes that it starts.
#[derive(Subcommand)]
enum Part {
    #[command(hide = true)]
    Load(load::Options),
    #[command(hide = true)]
    Bare(bare::Options),
}

fn main() -> ExitCode {
    let Arguments { part, options } = Arguments::parse();
    let done = match part {
        Some(Part::Load(options)) => load::run(&options),
        Some(Part::Bare(options)) => bare::run(&options),
        None => measure(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &run::Options) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let report = runtime.block_on(run::run(options, &Steps::begin()))?;
    writeln!(std::io::stdout(), "{report}")?;
    Ok(())
}
