//! Logs, through tracing-subscriber, to standard output.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing_subscriber::{EnvFilter, filter::ParseError, fmt};

/// The AMQP client logs each fault before it returns it; it is logged where it is handled. The
/// user's own directives come later and win.
const QUIET: &str = "lapin=off";

/// What is logged, and how.
#[derive(Args, Clone, Debug)]
pub struct LogConfig {
    /// Which events are logged: a level, or directives such as info,gateway=debug
    #[arg(long = "log", env = "RUST_LOG", value_name = "RUST_LOG", default_value = "info")]
    pub filter: String,
    /// How events are written
    #[arg(
        long = "log-format",
        env = "LOG_FORMAT",
        value_name = "LOG_FORMAT",
        default_value = "pretty",
        value_enum
    )]
    pub format: LogFormat,
}

/// How events are written.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One line an event, for people
    Pretty,
    /// One JSON object an event, for machines
    Json,
}

impl LogConfig {
    /// Checks the filter's syntax.
    pub fn validate(&self) -> Result<(), ParseError> {
        EnvFilter::builder().parse(&self.filter).map(drop)
    }
}

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
