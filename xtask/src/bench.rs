//! `cargo xtask bench`: measurements on servers of the run's own, by programs built for release.

mod events;
mod fanout;
mod load;

use std::{
    path::PathBuf,
    process::{ExitCode, Stdio},
};

use anyhow::Result;
use clap::Args;
use testkit::settings;
use tokio::process::Command;

use crate::scratch_run::ScratchRun;

/// Options of `cargo xtask bench`, all of which the measuring program reads.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// `--quick`, `--only LIST`, `--connections LIST`, `--no-peer`, …; `fanout …` measures frames to
    /// many subscribers, `events …` changes; `compare A B`; `--help`, `fanout --help` and `events --help` explain them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    options: Vec<String>,
}

/// A measuring program, built, and what it is given.
struct Bench {
    program: &'static str,
    path: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(&'static str, PathBuf)>,
}

/// Measures, and writes the results to `target/bench`.
pub(crate) async fn run(options: &Options) -> Result<ExitCode> {
    ScratchRun::run("bench", async |run| measure(&options.options, run).await).await
}

async fn measure(options: &[String], run: &ScratchRun) -> Result<ExitCode> {
    let bench = match options.split_first() {
        Some((first, rest)) if first == "events" => events::prepare(rest, run).await?,
        Some((first, rest)) if first == "fanout" => fanout::prepare(rest, run).await?,
        _ => load::prepare(options, run).await?,
    };
    let mut command = Command::new(&bench.path);
    command
        .args(&bench.arguments)
        .envs(bench.environment)
        .env("MESSAGES_BENCH_RESULTS_DIR", run.target_dir.join("bench"))
        .env(settings::SCRATCH_DIR, &run.dir)
        .stdin(Stdio::null());
    run.finish(bench.program, command).await
}

fn asks_for_help(options: &[String]) -> bool {
    options.iter().any(|option| option == "--help" || option == "-h")
}
