//! Logs, through tracing-subscriber, to standard output.

mod access;
mod directives;

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing_subscriber::{EnvFilter, fmt};

pub use access::AccessLog;

/// Directives of a process that runs one task for an operator.
const TOOL: &str = "lapin=off,warn";

/// Settings of the logs.
#[derive(Args, Clone, Debug)]
pub struct LogConfig {
    /// Events to log: a level, or directives such as info,gateway=debug. Without a level for all targets,
    /// it is warn
    #[arg(
        long = "log",
        env = "RUST_LOG",
        value_name = "RUST_LOG",
        default_value = "info",
        value_parser = directives::parse
    )]
    pub filter: EnvFilter,
    /// Format of the log
    #[arg(
        long = "log-format",
        env = "LOG_FORMAT",
        value_name = "LOG_FORMAT",
        default_value = "pretty",
        value_enum
    )]
    pub format: LogFormat,
    /// HTTP requests to log when they end
    #[arg(
        long = "access-log",
        env = "ACCESS_LOG",
        value_name = "ACCESS_LOG",
        default_value = "errors",
        value_enum
    )]
    pub access: AccessLog,
}

/// Format of the log.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One line for each event, for people
    Pretty,
    /// One JSON object for each event, for machines
    Json,
}

impl LogConfig {
    /// Returns what seems to have no effect, with the name of its setting.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let targets = directives::unknown_targets(&self.filter).into_iter();
        let warning = |target| {
            format!(
                "RUST_LOG: perhaps nothing logs as {target}; the services' targets start with \
                     gateway, storage_worker, broadcaster, broker, store, service or telemetry"
            )
        };
        targets.map(warning).collect()
    }
}

/// Starts logging for the whole process. A second call changes nothing, so that a test may start
/// several services in one process.
pub fn start(config: &LogConfig) {
    let filter = config.filter.clone();
    // Colours are for terminals, unless NO_COLOR is set. Internal errors go to standard error, which
    // may be closed: printing them would then panic the task that logs.
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
        tracing::debug!(%error, "logging has already been started");
    }
}

/// Starts logging warnings to standard error, for a process that prints its result on standard
/// output.
pub fn start_for_tool() {
    let filter = EnvFilter::builder().parse_lossy(TOOL);
    let format = fmt().with_env_filter(filter).with_target(false).with_writer(std::io::stderr);
    if let Err(error) = format.try_init() {
        tracing::debug!(%error, "logging has already been started");
    }
}
