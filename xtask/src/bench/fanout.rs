//! `cargo xtask bench fanout`: the release build of the broadcaster on servers of the run's own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use testkit::{
    Service,
    provision::{provide_mongod, provide_rabbitmq},
    settings,
};

use crate::{
    cargo::{self, Running},
    console::Steps,
    interrupt::Interrupt,
    python,
    stack::{Ledger, Role},
    test::sweep,
};

/// The directories of these runs are called this and their xtask's pid.
const DIR_PREFIX: &str = "fanout-stack-";

/// The package and the program that measures.
const PROGRAM: &str = "bench-fanout";

/// The peer's source, and what it runs on.
const PEER_DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../bench/peers/fastapi");
const PEER_REQUIREMENTS: &str = include_str!("../../../bench/peers/fastapi/chat-requirements.txt");

/// What `cargo xtask bench fanout` takes: everything is the program's own.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// `--subscribers LIST`, `--what LIST`, `--seconds N`, …; `--help` explains them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    options: Vec<String>,
}

/// Measures. The results are in `bench` of the target directory.
pub(crate) async fn run(options: &Options) -> Result<ExitCode> {
    let steps = Steps::begin();
    let interrupt = Interrupt::watch(steps)?;
    let target_dir = cargo::target_dir().await?;
    sweep(&target_dir, DIR_PREFIX, steps).await;
    let dir = target_dir.join(format!("{DIR_PREFIX}{}", std::process::id()));
    fs::create_dir_all(&dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    let done = interrupt.stop.run_until_cancelled(measure(options, &target_dir, &dir, steps)).await;
    // The program's process group is gone, and the servers with it.
    fs::remove_dir_all(&dir).with_context(|| format!("{} cannot be removed", dir.display()))?;
    done.unwrap_or(Ok(ExitCode::from(130)))
}

async fn measure(
    options: &Options,
    target_dir: &Path,
    dir: &Path,
    steps: Steps,
) -> Result<ExitCode> {
    let ledger = Ledger::open(dir)?;
    let broadcaster = Service::Broadcaster.binary();
    let arguments = ["build", "--release", "--bin", broadcaster, "--bin", PROGRAM];
    let built = Running::start(cargo::command(&arguments))?.wait().await?;
    if !built.success() {
        bail!("{PROGRAM} cannot be built (cargo build: {built})");
    }
    let bin_dir = target_dir.join("release");
    let python = python::provide(target_dir, "fastapi-chat", PEER_REQUIREMENTS, &steps).await?;
    let paths: [(&str, PathBuf); 4] = [
        (settings::BIN_DIR, bin_dir.clone()),
        (settings::SCRATCH_DIR, dir.to_owned()),
        (settings::RABBITMQ_SERVER, provide_rabbitmq(target_dir, &steps).await?),
        (settings::MONGOD, provide_mongod(target_dir, &steps).await?),
    ];
    let mut command = tokio::process::Command::new(bin_dir.join(PROGRAM));
    command
        .arg("--out")
        .arg(target_dir.join("bench"))
        .arg("--peer-python")
        .arg(python.join("python"))
        .args(["--peer-dir", PEER_DIR])
        .args(&options.options)
        .envs(paths);
    // It leads a process group, which all that it starts belongs to.
    let program = Running::start(command)?;
    ledger.add_pid(Role::Tests, PROGRAM, program.pid()?)?;
    let status = program.wait().await?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
