//! The program that `cargo xtask bench events` runs. It measures how soon the event of a write reaches the subscribers of its
//! users, what a subscriber costs, and how long many subscribers take to catch up.
//!
//! Writes and subscribers are threads of this program, so that one clock times both.

mod delays;
mod options;
mod payloads;
mod report;
mod run;
mod subscribers;
mod system;
mod users;
mod writes;

use std::{io::Write, process::ExitCode};

use clap::Parser;
use testkit::Steps;

fn main() -> ExitCode {
    match measure(&options::Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &options::Options) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let report = runtime.block_on(run::run(options, &Steps::begin()))?;
    writeln!(std::io::stdout(), "{report}")?;
    Ok(())
}
