//! `cargo xtask bench`: measurements on servers of the run's own, by programs built for release.

mod fanout;
mod load;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use testkit::{
    provision::{provide_mongod, provide_rabbitmq},
    settings,
};

use crate::{
    cargo::{self, Running},
    console::Steps,
    interrupt::Interrupt,
    stack::{Ledger, Role},
    test::sweep,
};

/// The directories of runs are called this and their xtask's pid.
const DIR_PREFIX: &str = "bench-stack-";

/// What `cargo xtask bench` takes: everything is the metrics program's own.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// `--quick`, `--only LIST`, `--connections LIST`, `--no-peer`, …; `fanout …` metrics frames to
    /// many subscribers; `compare A B`; `--help` and `fanout --help` explain them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    options: Vec<String>,
}

/// A program that measures, built, and what it needs.
struct Measurer {
    program: &'static str,
    path: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(&'static str, PathBuf)>,
}

/// Metrics, and writes what came of it under `target/bench`.
pub(crate) async fn run(options: &Options) -> Result<ExitCode> {
    let steps = Steps::begin();
    let interrupt = Interrupt::watch(steps)?;
    let target_dir = cargo::target_dir().await?;
    sweep(&target_dir, DIR_PREFIX, steps).await;
    let dir = target_dir.join(format!("{DIR_PREFIX}{}", std::process::id()));
    fs::create_dir_all(&dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    let metrics = measure(&options.options, &target_dir, &dir, steps);
    let done = interrupt.stop.run_until_cancelled(metrics).await;
    // The program's process group is gone, and the servers with it.
    fs::remove_dir_all(&dir).with_context(|| format!("{} cannot be removed", dir.display()))?;
    done.unwrap_or(Ok(ExitCode::from(130)))
}

async fn measure(
    options: &[String],
    target_dir: &Path,
    dir: &Path,
    steps: Steps,
) -> Result<ExitCode> {
    let ledger = Ledger::open(dir)?;
    let measurer = match options.split_first() {
        Some((first, rest)) if first == "fanout" => {
            fanout::prepare(rest, target_dir, steps).await?
        }
        _ => load::prepare(options, target_dir, steps).await?,
    };
    let mut command = tokio::process::Command::new(&measurer.path);
    command
        .args(&measurer.arguments)
        .envs(measurer.environment)
        .env("MESSAGES_BENCH_RESULTS_DIR", target_dir.join("bench"))
        .env(settings::SCRATCH_DIR, dir)
        .stdin(Stdio::null());
    // It leads a process group, which all that it starts belongs to.
    let running = Running::start(command)?;
    ledger.add_pid(Role::Tests, measurer.program, running.pid()?)?;
    let status = running.wait().await?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

fn asks_for_help(options: &[String]) -> bool {
    options.iter().any(|option| option == "--help" || option == "-h")
}

/// Installs the servers where they are missing, and says where they and the services are.
async fn servers(
    bin_dir: PathBuf,
    target_dir: &Path,
    steps: Steps,
) -> Result<Vec<(&'static str, PathBuf)>> {
    Ok(vec![
        (settings::BIN_DIR, bin_dir),
        (settings::RABBITMQ_SERVER, provide_rabbitmq(target_dir, &steps).await?),
        (settings::MONGOD, provide_mongod(target_dir, &steps).await?),
    ])
}

async fn build(arguments: &[&str]) -> Result<()> {
    let status = Running::start(cargo::command(&[&["build"], arguments].concat()))?.wait().await?;
    if !status.success() {
        bail!("{} cannot be built (cargo build: {status})", arguments.join(" "));
    }
    Ok(())
}
