//! The broadcaster's process: configuration, logging, signals, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    service::run_service("broadcaster", broadcaster::run)
}
