//! The broadcaster's process.

use std::process::ExitCode;

fn main() -> ExitCode {
    service::run_service("broadcaster", broadcaster::run)
}
