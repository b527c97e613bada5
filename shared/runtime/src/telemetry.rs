//! Logs, through tracing-subscriber, to standard output.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt};

use crate::config::{LogConfig, LogFormat};

/// The AMQP client logs each fault before it returns it; it is logged where it is handled. The
/// user's own directives come later and win.
const QUIET: &str = "lapin=off";

/// Starts logging for the whole process. A second call changes nothing, so that a test may start
/// several services in one process.
pub fn start(config: &LogConfig) {
    let filter = EnvFilter::builder().parse_lossy(format!("{QUIET},{}", config.filter));
    // A log that can't be written must not be complained about on standard error, which may be as
    // closed: that would panic the task that logs.
    // Colours are for people: none in a file or a pipe, nor where NO_COLOR asks for none.
    let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let started = match config.format {
        LogFormat::Pretty => fmt()
            .with_env_filter(filter)
            .with_target(false)
            .with_ansi(colours)
            .log_internal_errors(false)
            .try_init(),
        LogFormat::Json => fmt()
            .json()
            .flatten_event(true)
            .with_env_filter(filter)
            .log_internal_errors(false)
            .try_init(),
    };
    if let Err(error) = started {
        tracing::debug!(%error, "logging had been started before");
    }
}

/// Starts logging warnings to standard error, for a process whose standard output is its answer.
pub fn start_for_tool() {
    let filter = EnvFilter::builder().parse_lossy(format!("{QUIET},warn"));
    let format = fmt().with_env_filter(filter).with_target(false).with_writer(std::io::stderr);
    if let Err(error) = format.try_init() {
        tracing::debug!(%error, "logging had been started before");
    }
}
