//! The environment variables through which `cargo xtask bench` says where the tools are. Those of
//! the services and servers are testkit's.

/// The load generator for closed loops.
pub(crate) const WRK: &str = "MESSAGES_BENCH_WRK";
/// The load generator for constant rates.
pub(crate) const OHA: &str = "MESSAGES_BENCH_OHA";
/// The Python of the peer's virtual environment.
pub(crate) const PEER_PYTHON: &str = "MESSAGES_BENCH_PEER_PYTHON";
/// Where each run's results go, in a directory of its own.
pub(crate) const RESULTS_DIR: &str = "MESSAGES_BENCH_RESULTS_DIR";
