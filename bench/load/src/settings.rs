//! Environment variables in which `cargo xtask bench` passes the paths of the tools. Those of services and
//! servers are testkit's.

/// The load generator for closed loops.
pub(crate) const WRK: &str = "MESSAGES_BENCH_WRK";
/// The load generator for constant rates.
pub(crate) const OHA: &str = "MESSAGES_BENCH_OHA";
/// The Python of the peer's virtual environment.
pub(crate) const PEER_PYTHON: &str = "MESSAGES_BENCH_PEER_PYTHON";
/// Directory of the results, in which each run has its own.
pub(crate) const RESULTS_DIR: &str = "MESSAGES_BENCH_RESULTS_DIR";
