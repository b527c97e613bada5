//! `cargo xtask fuzz-parsers`: the targets in `fuzz/`, each for a limited time, by cargo-fuzz.
//!
//! Without a sanitizer, which would need a nightly compiler: the services have no unsafe code. What is looked for are
//! panics, overflows, hangs and memory without bound.

use std::{
    fs,
    num::NonZero,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    thread::available_parallelism,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use testkit::Progress;
use tokio::process::Command;

use crate::{
    cargo::{self, Running},
    console,
    scratch_run::ScratchRun,
    tool,
};

const VERSION: &str = "0.13.2";

/// Maximum seconds for one input. Most take microseconds.
const INPUT_SECONDS: u32 = 20;

/// Maximum memory of a target, in MiB.
const MEMORY_MIB: u32 = 1024;

/// Lines of a target's output that are printed if it found something.
const TAIL_LINES: usize = 60;

/// Options of `cargo xtask fuzz-parsers`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Seconds for which each target runs
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Number of targets to run at a time; by default, one for each processor
    #[arg(long, value_name = "N")]
    jobs: Option<NonZero<usize>>,
    /// Targets, by their names in `fuzz/targets`; all of them by default
    targets: Vec<String>,
}

/// Fuzzes, and exits with 0 where nothing was found.
pub(crate) async fn run(options: &Options) -> Result<ExitCode> {
    ScratchRun::run("fuzz-parsers", async |run| fuzz(options, run).await).await
}

async fn fuzz(options: &Options, run: &ScratchRun) -> Result<ExitCode> {
    let project = Project {
        fuzz_dir: cargo::project()?.join("fuzz"),
        build_dir: run.target_dir.join("fuzz-parsers"),
        program: tool::provide(&run.target_dir, "cargo-fuzz", VERSION, run.steps).await?,
    };
    let targets = project.targets(&options.targets)?;
    run.steps.say("building the targets");
    let mut build = project.cargo_fuzz("build");
    if let [only] = &targets[..] {
        build.arg(only);
    }
    let status = run.start("cargo-fuzz", build)?.wait().await?;
    ensure!(status.success(), "the targets cannot be built ({status})");

    let jobs = options.jobs.or(available_parallelism().ok()).map_or(1, NonZero::get);
    let mut failed = Vec::new();
    for group in targets.chunks(jobs) {
        run.steps.say(&format!("{} s for {}", options.seconds, group.join(", ")));
        let started: Result<Vec<Running>> = group
            .iter()
            .map(|target| run.start(target, project.run(target, options.seconds, &run.dir)?))
            .collect();
        for (target, running) in group.iter().zip(started?) {
            let status = running.wait().await?;
            let log = fs::read_to_string(log_of(&run.dir, target)).unwrap_or_default();
            let inputs = executed(&log).unwrap_or("an unknown number of");
            if status.success() {
                console::line(&format!("{target}: {inputs} inputs, nothing found"));
            } else {
                console::line(&format!(
                    "{target}: found something after {inputs} inputs\n{}",
                    tail(&log)
                ));
                failed.push(target.as_str());
            }
        }
    }
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    console::line(&format!("found something: {}; see fuzz/artifacts", failed.join(", ")));
    Ok(ExitCode::FAILURE)
}

struct Project {
    fuzz_dir: PathBuf,
    build_dir: PathBuf,
    /// cargo-fuzz.
    program: PathBuf,
}

impl Project {
    /// Returns the chosen targets, or all.
    fn targets(&self, chosen: &[String]) -> Result<Vec<String>> {
        let mut known = Vec::new();
        for entry in
            fs::read_dir(self.fuzz_dir.join("targets")).context("fuzz/targets cannot be read")?
        {
            let path = entry?.path();
            known.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
        }
        known.sort();
        if let Some(unknown) = chosen.iter().find(|name| !known.contains(name)) {
            bail!("there is no target {unknown}; there are {}", known.join(", "));
        }
        Ok(if chosen.is_empty() { known } else { chosen.to_vec() })
    }

    fn cargo_fuzz(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            // It expects to be called by cargo.
            .args(["fuzz", subcommand, "--sanitizer", "none", "--fuzz-dir"])
            .arg(&self.fuzz_dir)
            .arg("--target-dir")
            .arg(&self.build_dir)
            .stdin(Stdio::null());
        command
    }

    /// Prepares a run of a target that begins with its seeds and with what earlier runs have kept.
    fn run(&self, target: &str, seconds: u32, dir: &Path) -> Result<Command> {
        let of = |name: &str| self.fuzz_dir.join(name).join(target);
        // libFuzzer writes to the first directory only.
        let corpora = [of("corpus"), of("seeds")];
        for corpus in &corpora {
            fs::create_dir_all(corpus)
                .with_context(|| format!("{} cannot be made", corpus.display()))?;
        }
        let log = log_of(dir, target);
        let log =
            fs::File::create(&log).with_context(|| format!("{} cannot be made", log.display()))?;
        let mut command = self.cargo_fuzz("run");
        command
            .arg(target)
            .args(&corpora)
            .arg("--")
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-timeout={INPUT_SECONDS}"))
            .arg(format!("-rss_limit_mb={MEMORY_MIB}"))
            .args(["-print_final_stats=1", "-verbosity=0"])
            .stdout(log.try_clone()?)
            .stderr(log);
        Ok(command)
    }
}

fn log_of(dir: &Path, target: &str) -> PathBuf {
    dir.join(target).with_extension("log")
}

/// Returns the number of inputs that libFuzzer has tried.
fn executed(log: &str) -> Option<&str> {
    log.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:")).map(str::trim)
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_inputs_is_that_of_libfuzzer() {
        let log = "Done 12 runs in 1 second(s)\nstat::number_of_executed_units: 4242\nstat::peak_rss_mb: 32\n";
        assert_eq!(executed(log), Some("4242"));
        assert_eq!(executed("panicked"), None);
    }
}
