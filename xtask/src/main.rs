//! The project's commands, `cargo xtask …`. CI runs the same.

mod bench;
mod cargo;
mod check;
mod command;
mod console;
mod deny;
mod dev_issuer;
mod down;
mod fuzz;
mod fuzz_parsers;
mod infrastructure;
mod interrupt;
mod openapi;
mod python;
mod scratch_run;
mod stack;
mod test;
mod tool;
mod torture;
mod up;

use std::process::ExitCode;

use clap::Parser;

/// The project's commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, disable_help_subcommand = true)]
enum Command {
    /// Run the whole system on this machine
    ///
    /// Uses `RABBITMQ_URL` and `MONGO_URI` where they are set. Otherwise starts a private RabbitMQ and MongoDB under
    /// cargo's target directory, installs them if needed, and keeps their data for the next time.
    /// The services listen on `GATEWAY_BIND` (127.0.0.1:8000), `BROADCASTER_BIND` (127.0.0.1:8001) and
    /// `STORAGE_WORKER_BIND` (127.0.0.1:8002), or on a free port where one of these is taken. They inherit all
    /// other variables. Ctrl-C stops everything.
    Up(up::Options),
    /// Stop the system that `up` started, in any terminal
    Down,
    /// Print a token for the system that `up --auth` started
    ///
    /// Its issuer is a key under cargo's target directory, which is made the first time.
    Token(dev_issuer::Options),
    /// Run all tests on a private RabbitMQ and MongoDB
    ///
    /// Starts them for this run, under cargo's target directory, and removes them afterwards. A system that `up`
    /// started is not disturbed.
    Test(test::Options),
    /// Check format, lints, documentation, dependencies, spelling, links, Kubernetes manifests, alerts and
    /// API documents
    ///
    /// Installs cargo-machete, typos and kubernetes-validate under cargo's target directory, the first time. A check
    /// whose tools are missing is skipped with a message. Where `CI` is set they are installed or the check fails.
    Check,
    /// Check licenses, sources, bans and advisories of all dependencies with cargo-deny
    ///
    /// Builds cargo-deny the first time. The rules are in `deny.toml`.
    Deny(deny::Options),
    /// Write `docs/openapi.json` and `docs/asyncapi.json` anew, from the code
    ///
    /// `check` fails if they differ from what the services print.
    Openapi,
    /// Fuzz the HTTP API with schemathesis, on a private system
    ///
    /// Exits with 0 if every response conforms to the gateway's OpenAPI document.
    Fuzz(fuzz::Options),
    /// Fuzz each parser of bytes from outside for a limited time
    ///
    /// Builds cargo-fuzz the first time, and needs a C++ compiler. The targets and their seeds are in `fuzz/`; what is
    /// found is kept in `fuzz/artifacts`. Exits with 0 if nothing is found.
    FuzzParsers(fuzz_parsers::Options),
    /// Check the system's promises under faults
    ///
    /// Kills, freezes and disconnects parts of a private system under load, raises broker alarms and fills the queue, by
    /// a seeded plan, and compares what each client was told with what is stored. Exits with 0 if every promise was kept.
    Torture(torture::Options),
    /// Measure this system beside a FastAPI peer and the limits of broker, database and axum
    ///
    /// Builds for release, starts private servers and services, and writes tables, plots and JSON to a directory of
    /// the run under `target/bench`. `compare A B` compares two runs.
    Bench(bench::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Up(options) => up::run(&options).await,
        Command::Down => down::run().await,
        Command::Token(options) => dev_issuer::run(&options).await,
        Command::Test(options) => test::run(&options).await,
        Command::Check => check::run().await,
        Command::Deny(options) => deny::run(&options).await,
        Command::Openapi => openapi::run().await,
        Command::Fuzz(options) => fuzz::run(&options).await,
        Command::FuzzParsers(options) => fuzz_parsers::run(&options).await,
        Command::Torture(options) => torture::run(&options).await,
        Command::Bench(options) => bench::run(&options).await,
    };
    done.unwrap_or_else(|error| {
        console::error(&error);
        ExitCode::FAILURE
    })
}
