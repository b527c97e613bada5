//! Logs, metrics and traces of the services.

mod error_chain;
pub mod logging;
pub mod metrics;
pub mod traces;

pub use error_chain::error_chain;

/// Returns the name of this host, as logs, traces and dead letters show it.
#[must_use]
pub fn host_name() -> String {
    nix::unistd::gethostname()
        .map_or_else(|_| "unknown".to_owned(), |name| name.to_string_lossy().into_owned())
}
