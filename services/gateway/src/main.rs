//! The gateway's process: configuration, logging, signals, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    runtime::run_service("gateway", gateway::run)
}
