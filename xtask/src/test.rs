//! `cargo xtask test`: the whole suite on servers that live as long as the run.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::Args;
use testkit::{
    Progress,
    provision::{provide_chromium, provide_mongod, provide_rabbitmq},
    settings,
};
use tokio_util::sync::CancellationToken;

use crate::{
    cargo::{self, Running},
    console::Steps,
    infrastructure::{Place, start_broker, start_mongod},
    interrupt::Interrupt,
    python,
    stack::{Ledger, Role, read_ledger, stop},
};

/// The directories of test runs are called this and their xtask's pid.
const DIR_PREFIX: &str = "test-stack-";

/// What tests run in Python, and what it needs. This version runs on Python 3.9 and later.
const PYTHON_PACKAGES: [&str; 1] = ["websockets==15.0.1"];

/// The package whose tests open a browser.
const BROWSING: &str = "end-to-end";

/// What `cargo xtask test` takes.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Passed to `cargo test`, as in `cargo xtask test -- --package store -- --nocapture`
    #[arg(last = true, value_name = "ARGUMENTS")]
    arguments: Vec<String>,
}

/// Runs the tests and exits as they do.
pub(crate) async fn run(options: &Options) -> Result<ExitCode> {
    let steps = Steps::begin();
    let interrupt = Interrupt::watch(steps)?;
    let target_dir = cargo::target_dir().await?;
    sweep(&target_dir, DIR_PREFIX, steps).await;
    let dir = target_dir.join(format!("{DIR_PREFIX}{}", std::process::id()));
    for part in ["scratch", "rabbitmq", "mongod", "standalone"] {
        fs::create_dir_all(dir.join(part))
            .with_context(|| format!("{} cannot be made", dir.display()))?;
    }
    let ledger = Ledger::open(&dir)?;

    let tests = Box::pin(run_on_servers(options, &target_dir, &dir, &ledger, steps));
    let done = interrupt.stop.run_until_cancelled(tests).await;
    // The servers were killed as their values were dropped: nothing of theirs is wanted any more.
    fs::remove_dir_all(&dir).with_context(|| format!("{} cannot be removed", dir.display()))?;
    done.unwrap_or(Ok(ExitCode::from(130)))
}

async fn run_on_servers(
    options: &Options,
    target_dir: &Path,
    dir: &Path,
    ledger: &Ledger,
    steps: Steps,
) -> Result<ExitCode> {
    steps.say("building the services and starting private servers");
    let place = |name: &str| Place { dir: dir.join(name).join("data"), log_dir: dir.join(name) };
    let (bin_dir, packages, broker, mongod, standalone) = tokio::try_join!(
        cargo::build_services(false),
        python::provide_packages(target_dir, &PYTHON_PACKAGES, &steps),
        start_broker(target_dir, place("rabbitmq"), ledger, steps),
        start_mongod(target_dir, place("mongod"), true, ledger, steps),
        start_mongod(target_dir, place("standalone"), false, ledger, steps),
    )?;
    let rabbitmq_server = provide_rabbitmq(target_dir, &steps).await?;
    let mongod_program = provide_mongod(target_dir, &steps).await?;

    let names_packages = options
        .arguments
        .iter()
        .any(|argument| argument.starts_with("-p") || argument.starts_with("--package"));
    let chromium = if !names_packages || options.arguments.iter().any(|it| it.contains(BROWSING)) {
        // Its test says so once more, and fails: all others can do without.
        let found = provide_chromium(target_dir, &steps).await;
        found.inspect_err(|error| steps.say(&format!("no browser: {error:#}"))).ok()
    } else {
        None
    };
    let mut arguments = vec!["test"];
    if !names_packages {
        arguments.push("--workspace");
    }
    arguments.extend(options.arguments.iter().map(String::as_str));
    steps.say(&format!("cargo {}", arguments.join(" ")));
    let mut command = cargo::command(&arguments);
    let paths: [(&str, PathBuf); 5] = [
        (settings::BIN_DIR, bin_dir),
        (settings::PYTHON_PACKAGES, packages),
        (settings::SCRATCH_DIR, dir.join("scratch")),
        (settings::RABBITMQ_SERVER, rabbitmq_server),
        (settings::MONGOD, mongod_program),
    ];
    command
        .envs(paths)
        .envs(chromium.map(|chromium| (settings::CHROMIUM, chromium)))
        .env(settings::RABBITMQ_URL, broker.url())
        .env(settings::MANAGEMENT_URL, broker.management().base())
        .env(settings::MONGO_URI, mongod.url())
        .env(settings::STANDALONE_MONGO_URI, standalone.url());
    if env::var_os("RUST_TEST_THREADS").is_none() {
        // End-to-end tests wait more than they compute; more of them would boot more servers at a time.
        command.env("RUST_TEST_THREADS", "4");
    }
    let tests = Running::start(command)?;
    ledger.add_pid(Role::Tests, "cargo test", tests.pid()?)?;
    let status = tests.wait().await?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Ends and removes what runs left whose xtask was killed. Their directories' names begin with `prefix`.
pub(crate) async fn sweep(target_dir: &Path, prefix: &str, steps: Steps) {
    let hurry = CancellationToken::new();
    hurry.cancel();
    for entry in fs::read_dir(target_dir).into_iter().flatten().filter_map(Result::ok) {
        if !entry.file_name().to_string_lossy().starts_with(prefix) {
            continue;
        }
        let Some(record) = read_ledger(&entry.path()) else { continue };
        if !record.owner.is_alive() {
            steps.say(&format!("removing what a killed run left in {}", entry.path().display()));
            stop(record.alive(), &hurry, steps).await;
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
