//! `cargo xtask torture`: the promises under faults, on servers that the run owns and kills.

use std::{fs, path::Path, process::ExitCode};

use anyhow::{Context, Result};
use clap::Args;
use testkit::{Progress, Service, settings};
use tokio::process::Command;

use crate::{cargo, scratch_run::ScratchRun};

/// The package, and its program.
const PROGRAM: &str = "torture";

/// The option that the program does not read.
const RELEASE: &str = "--release";

/// Options of `cargo xtask torture`, nearly all of which the program reads.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// `--seconds N` | `--operations N`, `--seed S`, `--clients N`, `--faults LIST`, `--lie COMMANDS`, …;
    /// `--help` explains them. `--release`, among them, builds everything optimized
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    options: Vec<String>,
}

/// Tortures the system, and exits with 0 where every promise was kept.
pub(crate) async fn run(options: &Options) -> Result<ExitCode> {
    ScratchRun::run("torture", async |run| torture(options, run).await).await
}

async fn torture(options: &Options, run: &ScratchRun) -> Result<ExitCode> {
    let (for_build, for_program): (Vec<&String>, Vec<&String>) =
        options.options.iter().partition(|option| *option == RELEASE);
    let release = !for_build.is_empty();
    let built = cargo::build_services(release).await?;
    let mut arguments = vec!["--package", PROGRAM, "--bins"];
    arguments.extend(release.then_some(RELEASE));
    cargo::build(&arguments).await?;
    let bin_dir = run.dir.join("bin");
    copy_programs(&built, &bin_dir)?;
    let mut command = Command::new(bin_dir.join(PROGRAM));
    command
        .args(for_program)
        .envs(run.programs(&bin_dir).await?)
        .env(settings::SCRATCH_DIR, &run.dir);
    run.steps.say("torturing");
    run.finish(PROGRAM, command).await
}

/// Copies the programs: killed ones are started again minutes later, and a build in between must not change them.
fn copy_programs(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to).with_context(|| format!("{} cannot be made", to.display()))?;
    let services = Service::ALL.map(Service::binary);
    for program in services.into_iter().chain([PROGRAM, "lying-worker"]) {
        fs::copy(from.join(program), to.join(program))
            .with_context(|| format!("{program} cannot be copied to {}", to.display()))?;
    }
    Ok(())
}
