//! `cargo xtask test`: the whole suite on servers that live as long as the run.

mod totals;

use std::{
    env, fs,
    path::PathBuf,
    process::{ExitCode, Stdio},
};

use anyhow::Result;
use clap::Args;
use testkit::{
    Progress,
    provision::{provide_chromium, provide_nginx},
    settings,
};

use crate::{
    cargo::{self, exit_code},
    console, python,
    scratch_run::ScratchRun,
};
use totals::Totals;

/// Packages for the tests that run Python. This version runs on Python 3.9 and later.
const PYTHON_PACKAGES: [&str; 1] = ["websockets==15.0.1"];

/// The package whose tests open a browser and start a proxy.
const END_TO_END: &str = "end-to-end";

/// Options of `cargo xtask test`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Passed to `cargo test`, as in `cargo xtask test -- --package store -- --nocapture`
    #[arg(last = true, value_name = "ARGUMENTS")]
    arguments: Vec<String>,
}

impl Options {
    fn name_packages(&self) -> bool {
        let mut arguments = self.arguments.iter();
        arguments.any(|it| it.starts_with("-p") || it.starts_with("--package"))
    }

    fn run_end_to_end(&self) -> bool {
        !self.name_packages() || self.arguments.iter().any(|it| it.contains(END_TO_END))
    }
}

/// Runs the tests, and exits as they do.
pub(crate) async fn run(options: &Options) -> Result<ExitCode> {
    ScratchRun::run("test", async |run| test(options, run).await).await
}

async fn test(options: &Options, run: &ScratchRun) -> Result<ExitCode> {
    let steps = run.steps;
    steps.say("building the services and starting private servers");
    let scratch = run.dir.join("scratch");
    fs::create_dir(&scratch)?;
    let (bin_dir, packages, broker, mongod, standalone) = tokio::try_join!(
        cargo::build_services(false),
        python::provide_packages(&run.target_dir, &PYTHON_PACKAGES, &steps),
        run.broker(),
        run.mongod("mongod", true),
        run.mongod("standalone", false),
    )?;
    // All of the suite runs, even if one binary of it fails.
    let mut arguments = vec!["test", "--no-fail-fast"];
    if !options.name_packages() {
        arguments.push("--workspace");
    }
    arguments.extend(options.arguments.iter().map(String::as_str));
    let mut command = cargo::command(&arguments);
    command
        .envs(run.programs(&bin_dir).await?)
        .envs(programs_of_end_to_end(options, run).await)
        .env(settings::PYTHON_PACKAGES, packages)
        .env(settings::SCRATCH_DIR, scratch)
        .env(settings::RABBITMQ_URL, broker.url())
        .env(settings::MANAGEMENT_URL, broker.management().base())
        .env(settings::MONGO_URI, mongod.url())
        .env(settings::STANDALONE_MONGO_URI, standalone.url());
    if env::var_os("RUST_TEST_THREADS").is_none() {
        // End-to-end tests wait more than they compute; more of them would boot more servers at a time.
        command.env("RUST_TEST_THREADS", "4");
    }
    command.stdout(Stdio::piped());
    steps.say(&format!("cargo {}", arguments.join(" ")));
    let mut tests = run.start("cargo test", command)?;
    let totals = match tests.stdout() {
        Some(output) => Totals::of(output, std::io::stdout()).await?,
        None => Totals::default(),
    };
    let status = tests.wait().await?;
    if !status.success() && totals.failed == 0 {
        console::line("a test binary was not built, or ended without a result; see above");
    }
    console::line(&totals.to_string());
    Ok(exit_code(status))
}

/// Returns the variables by which end-to-end tests find a browser and a proxy. Without one, its tests fail and say so; all
/// others can do without.
async fn programs_of_end_to_end(
    options: &Options,
    run: &ScratchRun,
) -> Vec<(&'static str, PathBuf)> {
    if !options.run_end_to_end() {
        return Vec::new();
    }
    let found = [
        (settings::CHROMIUM, provide_chromium(&run.target_dir, &run.steps).await),
        (settings::NGINX, provide_nginx(&run.target_dir, &run.steps).await),
    ];
    let known = |(variable, found): (_, Result<PathBuf>)| {
        let say = |error: &anyhow::Error| run.steps.say(&format!("{error:#}"));
        Some((variable, found.inspect_err(say).ok()?))
    };
    found.into_iter().filter_map(known).collect()
}
