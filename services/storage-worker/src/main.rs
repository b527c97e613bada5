//! The storage worker's process: configuration, logging, signals, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    service::run_service("storage-worker", storage_worker::run)
}
