//! Logs, through tracing-subscriber, to standard output.

use tracing_subscriber::{EnvFilter, fmt};

use crate::config::{LogConfig, LogFormat};

/// The AMQP client logs each fault before it returns it; it is logged where it is handled. The
/// user's own directives come later and win.
const QUIET: &str = "lapin=off";

/// Starts logging for the whole process. A second call changes nothing, so that a test may start
/// several services in one process.
pub fn start(config: &LogConfig) {
    let filter = EnvFilter::builder().parse_lossy(format!("{QUIET},{}", config.filter));
    let started = match config.format {
        LogFormat::Pretty => fmt().with_env_filter(filter).with_target(false).try_init(),
        LogFormat::Json => fmt().json().flatten_event(true).with_env_filter(filter).try_init(),
    };
    if let Err(error) = started {
        tracing::debug!(%error, "logging had been started before");
    }
}
