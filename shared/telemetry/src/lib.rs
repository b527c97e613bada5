//! Logs, metrics and traces of the services.

pub mod logging;
pub mod metrics;
pub mod traces;
