//! The gateway's process: configuration, logging, signals, exit code.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// Requests are many small allocations that one thread makes and another frees, which glibc's
/// allocator does at about 10 % of the gateway's processor time more.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    runtime::run_service("gateway", gateway::run)
}
