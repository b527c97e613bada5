//! `cargo xtask test`: the whole suite on servers that live as long as the run.

use std::{
    env, fmt, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
};

use anyhow::{Context, Result};
use clap::Args;
use testkit::{
    Progress,
    provision::{provide_chromium, provide_mongod, provide_rabbitmq},
    settings,
};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
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
    // All of the suite runs, even if one binary of it fails.
    let mut arguments = vec!["test", "--no-fail-fast"];
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
    command.stdout(Stdio::piped());
    let mut tests = Running::start(command)?;
    ledger.add_pid(Role::Tests, "cargo test", tests.pid()?)?;
    let totals = match tests.stdout() {
        Some(output) => Totals::of(output).await?,
        None => Totals::default(),
    };
    let status = tests.wait().await?;
    if !status.success() && totals.failed == 0 {
        println!("a test binary was not built, or ended without a result; see above");
    }
    println!("{totals}");
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Sums of all test binaries' results.
#[derive(Debug, Default, PartialEq, Eq)]
struct Totals {
    passed: usize,
    failed: usize,
    ignored: usize,
}

impl Totals {
    /// Prints the output of the tests as it comes, and adds up the results in it.
    async fn of(output: impl AsyncRead + Unpin) -> Result<Self> {
        let mut totals = Self::default();
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        // Tests may print what is no UTF-8.
        while output.read_until(b'\n', &mut line).await? > 0 {
            let mut stdout = io::stdout().lock();
            stdout.write_all(&line)?;
            stdout.flush()?;
            totals.add(&String::from_utf8_lossy(&line));
            line.clear();
        }
        Ok(totals)
    }

    /// Adds a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; …`; others count nothing.
    fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        for part in result.split(['.', ';']) {
            let mut words = part.split_whitespace();
            if let (Some(Ok(count)), Some(what)) =
                (words.next().map(str::parse::<usize>), words.next())
            {
                let sum = match what {
                    "passed" => &mut self.passed,
                    "failed" => &mut self.failed,
                    "ignored" => &mut self.ignored,
                    _ => continue,
                };
                *sum += count;
            }
        }
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "total: {} passed, {} failed", self.passed, self.failed)?;
        if self.ignored > 0 {
            write!(formatter, ", {} skipped", self.ignored)?;
        }
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn results_of_all_binaries_are_added_up() {
        let output = "running 2 tests\n\
            test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
            a test says: test result: ok. 9 passed\n\
            test result: FAILED. 3 passed; 4 failed; 0 ignored; 0 measured; 5 filtered out; finished in 1.2s\n";
        let totals = Totals::of(output.as_bytes()).await.unwrap();
        assert_eq!(totals, Totals { passed: 5, failed: 4, ignored: 1 });
        assert_eq!(totals.to_string(), "total: 5 passed, 4 failed, 1 skipped");
        assert_eq!(Totals::default().to_string(), "total: 0 passed, 0 failed");
    }
}
