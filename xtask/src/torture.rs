//! `cargo xtask torture`: the promises under faults, on servers that the run owns and kills.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use testkit::{
    Progress, Service,
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

/// The directories of torture runs are called this and their xtask's pid.
const DIR_PREFIX: &str = "torture-stack-";

/// The package and the program that tortures.
const TORTURER: &str = "torture";

/// The one option that is not the torturer's own.
const RELEASE: &str = "--release";

/// What `cargo xtask torture` takes: nearly everything is the torturer's own.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// `--seconds N` | `--operations N`, `--seed S`, `--clients N`, `--faults LIST`, `--lie COMMANDS`, …;
    /// `--help` explains them. `--release`, among them, builds all for speed
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    options: Vec<String>,
}

/// Tortures, and exits with 0 where every promise was kept.
pub(crate) async fn run(options: &Options) -> Result<ExitCode> {
    let steps = Steps::begin();
    let interrupt = Interrupt::watch(steps)?;
    let target_dir = cargo::target_dir().await?;
    sweep(&target_dir, DIR_PREFIX, steps).await;
    let dir = target_dir.join(format!("{DIR_PREFIX}{}", std::process::id()));
    fs::create_dir_all(&dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    let torture = torture(options, &target_dir, &dir, steps);
    let done = interrupt.stop.run_until_cancelled(torture).await;
    // The torturer's process group is gone, and the servers with it.
    fs::remove_dir_all(&dir).with_context(|| format!("{} cannot be removed", dir.display()))?;
    done.unwrap_or(Ok(ExitCode::from(130)))
}

async fn torture(
    options: &Options,
    target_dir: &Path,
    dir: &Path,
    steps: Steps,
) -> Result<ExitCode> {
    let ledger = Ledger::open(dir)?;
    let (for_build, for_torturer): (Vec<&String>, Vec<&String>) =
        options.options.iter().partition(|option| *option == RELEASE);
    let release = !for_build.is_empty();
    let built = cargo::build_services(release).await?;
    build_torturer(release).await?;
    let bin_dir = dir.join("bin");
    copy_programs(&built, &bin_dir)?;
    let paths: [(&str, PathBuf); 4] = [
        (settings::BIN_DIR, bin_dir.clone()),
        (settings::SCRATCH_DIR, dir.to_owned()),
        (settings::RABBITMQ_SERVER, provide_rabbitmq(target_dir, &steps).await?),
        (settings::MONGOD, provide_mongod(target_dir, &steps).await?),
    ];
    let mut command = tokio::process::Command::new(bin_dir.join(TORTURER));
    command.args(for_torturer).envs(paths);
    // It leads a process group, which all that it starts belongs to.
    let torturer = Running::start(command)?;
    ledger.add_pid(Role::Tests, TORTURER, torturer.pid()?)?;
    steps.say("torturing");
    let status = torturer.wait().await?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// What is killed is started again minutes later, and a build in between must not change it.
fn copy_programs(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to).with_context(|| format!("{} cannot be made", to.display()))?;
    let services = Service::ALL.map(Service::binary);
    for program in services.into_iter().chain([TORTURER, "lying-worker"]) {
        fs::copy(from.join(program), to.join(program))
            .with_context(|| format!("{program} cannot be copied to {}", to.display()))?;
    }
    Ok(())
}

async fn build_torturer(release: bool) -> Result<()> {
    let mut arguments = vec!["build", "--package", TORTURER, "--bins"];
    arguments.extend(release.then_some(RELEASE));
    let status = Running::start(cargo::command(&arguments))?.wait().await?;
    if !status.success() {
        bail!("the torturer cannot be built (cargo build: {status})");
    }
    Ok(())
}
