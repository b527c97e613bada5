//! Logs, metrics and traces of the services.

mod error_chain;
pub mod logging;
pub mod metrics;
pub mod traces;

pub use error_chain::error_chain;
