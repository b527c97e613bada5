//! The program that `cargo xtask bench` runs: load on this system, on its peer and on the limits
//! of what they stand on, side by side, and what came of it as Markdown, JSON and SVG.

mod compare;
mod console;
mod generator;
mod limits;
mod number;
mod operation;
mod options;
mod overload;
mod peer;
mod plot;
mod process;
mod report;
mod results;
mod run;
mod scale;
mod servers;
mod settings;
mod subject;
mod system;
mod usage;

use std::process::ExitCode;

use clap::Parser;

use options::{Arguments, Command};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Some(Command::Compare(options)) => compare::run(&options),
        Some(Command::Scale(options)) => Box::pin(scale::run(&options)).await,
        Some(Command::Overload(options)) => Box::pin(overload::run(&options)).await,
        None => Box::pin(run::run(&arguments.run)).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
