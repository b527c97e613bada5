//! The project's commands, `cargo xtask …`. CI runs the same.

mod alerts;
mod bench;
mod cargo;
mod check;
mod console;
mod deny;
mod down;
mod fuzz;
mod infrastructure;
mod interrupt;
mod manifests;
mod openapi;
mod python;
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
    /// Uses `RABBITMQ_URL` and `MONGO_URI` where set; else starts a private RabbitMQ and MongoDB under
    /// cargo's target directory, whose data is kept for the next time, and installs what is missing.
    /// Ports are taken from `GATEWAY_BIND` (127.0.0.1:8000), `BROADCASTER_BIND` (127.0.0.1:8001) and
    /// `STORAGE_WORKER_BIND` (127.0.0.1:8002); where one is taken, a free one is chosen. All other
    /// settings pass through to the services. Ctrl-C stops everything.
    Up(up::Options),
    /// Stop what `up` has started, in any terminal
    Down,
    /// Run all tests on a private RabbitMQ and MongoDB
    ///
    /// They are started for this run, under cargo's target directory, and leave nothing behind. A stack
    /// that `up` has started is not disturbed.
    Test(test::Options),
    /// Check format, lints, documentation, the Kubernetes manifests and the alerts
    ///
    /// Where kubectl or promtool is missing, what needs it is skipped, except where `CI` is set: there it is
    /// installed.
    Check,
    /// Check licences, sources, bans and advisories of all dependencies with cargo-deny
    ///
    /// Builds cargo-deny, the first time. `deny.toml` says what is allowed.
    Deny(deny::Options),
    /// Write `docs/openapi.json` and `docs/asyncapi.json` anew, from the code
    ///
    /// `check` fails where they differ from what the services print.
    Openapi,
    /// Fuzz the HTTP surface with schemathesis, on a system of its own
    ///
    /// Exits with 0 where every answer was what the gateway's OpenAPI document says of it.
    Fuzz(fuzz::Options),
    /// Check the system's promises while everything fails
    ///
    /// Kills, freezes, cuts and fills up a system of its own under load, by a seeded plan, and holds what
    /// each client was told against what is stored. Exits with 0 where every promise was kept.
    Torture(torture::Options),
    /// Measure the system, a peer of it and the limits of what they stand on, side by side
    ///
    /// Builds for release, starts private servers and services, and writes tables, plots and JSON
    /// to a directory of the run under `target/bench`. `compare A B` holds two runs against each other.
    Bench(bench::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Up(options) => up::run(&options).await,
        Command::Down => down::run().await,
        Command::Test(options) => test::run(&options).await,
        Command::Check => check::run().await,
        Command::Deny(options) => deny::run(&options).await,
        Command::Openapi => openapi::run().await,
        Command::Fuzz(options) => fuzz::run(&options).await,
        Command::Torture(options) => torture::run(&options).await,
        Command::Bench(options) => bench::run(&options).await,
    };
    done.unwrap_or_else(|error| {
        console::error(&error);
        ExitCode::FAILURE
    })
}
