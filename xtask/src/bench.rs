//! `cargo xtask bench`: measurements on servers of the run's own, by programs built for release.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use testkit::{
    Progress,
    provision::{provide_mongod, provide_rabbitmq, provide_wrk},
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

/// The directories of runs are called this and their xtask's pid.
const DIR_PREFIX: &str = "bench-stack-";

/// The load generator for constant rates.
const OHA_VERSION: &str = "1.16.0";
const PEER_REQUIREMENTS: &str = include_str!("../../bench/peers/fastapi/requirements.txt");

/// Fills databases.
const SEEDER: (&str, &str) = ("store", "bench-store");
/// The programs that measure limits, and the packages whose examples they are.
const LIMITS: [(&str, &str); 2] = [("broker", "bench-broker"), ("runtime", "bench-constant")];

/// What `cargo xtask bench` takes: everything is the measuring program's own.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// `--quick`, `--only LIST`, `--connections LIST`, `--no-peer`, …; `compare A B`; `--help` explains them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    options: Vec<String>,
}

/// The programs that measure.
#[derive(Clone, Copy, Debug)]
enum Program {
    /// Load on the HTTP surface.
    Load,
}

impl Program {
    fn of(_options: &[String]) -> Self {
        Self::Load
    }

    /// Its package and its binary.
    fn name(self) -> &'static str {
        match self {
            Self::Load => "bench-load",
        }
    }
}

/// Measures, and writes what came of it under `target/bench`.
pub(crate) async fn run(options: &Options) -> Result<ExitCode> {
    let steps = Steps::begin();
    let interrupt = Interrupt::watch(steps)?;
    let target_dir = cargo::target_dir().await?;
    sweep(&target_dir, DIR_PREFIX, steps).await;
    let dir = target_dir.join(format!("{DIR_PREFIX}{}", std::process::id()));
    fs::create_dir_all(&dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    let measuring = measure(options, &target_dir, &dir, steps);
    let done = interrupt.stop.run_until_cancelled(measuring).await;
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
    let program = Program::of(&options.options);
    // It makes no load itself, so it needs no release build.
    build(&["--package", program.name()]).await?;
    let mut command = tokio::process::Command::new(target_dir.join("debug").join(program.name()));
    command
        .args(&options.options)
        .env("MESSAGES_BENCH_RESULTS_DIR", target_dir.join("bench"))
        .env(settings::SCRATCH_DIR, dir)
        .stdin(Stdio::null());
    if needs_servers(&options.options) {
        command.envs(provide(&options.options, target_dir, steps).await?);
    }
    // It leads a process group, which all that it starts belongs to.
    let running = Running::start(command)?;
    ledger.add_pid(Role::Tests, program.name(), running.pid()?)?;
    let status = running.wait().await?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Not where two runs are compared, or help is asked for.
fn needs_servers(options: &[String]) -> bool {
    let compares = options.first().is_some_and(|first| first == "compare");
    !compares && !options.iter().any(|option| option == "--help" || option == "-h")
}

/// Builds for release, installs what is missing and asked for, and returns the variables that say
/// where it is.
async fn provide(
    options: &[String],
    target_dir: &Path,
    steps: Steps,
) -> Result<Vec<(&'static str, PathBuf)>> {
    let without = |option: &str| options.iter().any(|given| given == option);
    steps.say("building the services and the probes for release");
    let bin_dir = cargo::build_services(true).await?;
    let probes = if without("--no-limits") { &[][..] } else { &LIMITS };
    // One by one: built together with the services, these would get the features that only tests want.
    for (package, name) in [&[SEEDER], probes].concat() {
        build(&["--release", "--package", package, "--example", name]).await?;
    }
    let mut places = vec![
        (settings::BIN_DIR, bin_dir),
        (settings::RABBITMQ_SERVER, provide_rabbitmq(target_dir, &steps).await?),
        (settings::MONGOD, provide_mongod(target_dir, &steps).await?),
        ("MESSAGES_BENCH_WRK", provide_wrk(target_dir, &steps).await?),
    ];
    if !without("--no-rates") {
        places.push(("MESSAGES_BENCH_OHA", provide_oha(target_dir, steps).await?));
    }
    if !without("--no-peer") {
        let programs =
            python::environment("fastapi-peer", PEER_REQUIREMENTS, target_dir, steps).await?;
        places.push(("MESSAGES_BENCH_PEER_PYTHON", programs.join("python")));
    }
    Ok(places)
}

async fn provide_oha(target_dir: &Path, steps: Steps) -> Result<PathBuf> {
    let root = target_dir.join("tools").join(format!("oha-{OHA_VERSION}"));
    let program = root.join("bin").join("oha");
    if program.exists() {
        return Ok(program);
    }
    steps.say("oha: installing from crates.io");
    let mut command =
        cargo::command(&["install", "oha", "--version", OHA_VERSION, "--locked", "--quiet"]);
    command.arg("--root").arg(&root);
    let status = Running::start(command)?.wait().await?;
    if !status.success() {
        bail!("oha cannot be installed (cargo install: {status})");
    }
    Ok(program)
}

async fn build(arguments: &[&str]) -> Result<()> {
    let status = Running::start(cargo::command(&[&["build"], arguments].concat()))?.wait().await?;
    if !status.success() {
        bail!("{} cannot be built (cargo build: {status})", arguments.join(" "));
    }
    Ok(())
}
