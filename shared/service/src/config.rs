//! Configuration by flags and by environment variables. An invalid value ends the process before it
//! opens a port or a connection, with an error that names the variable.

use std::{error::Error, ffi::OsString, net::SocketAddr, process::ExitCode, time::Duration};

use clap::{
    Args, Command, Parser,
    error::{ContextKind, ContextValue, ErrorKind},
};
use telemetry::logging::LogConfig;

use crate::healthcheck;

/// Exit code for a wrong configuration (`EX_CONFIG` of BSD's sysexits.h): restarting does not help.
pub const EXIT_CONFIG: u8 = 78;

/// Configuration of a service.
pub trait ServiceConfig: Parser {
    /// Returns the settings that all services have.
    fn common(&self) -> &CommonConfig;

    /// Returns the address on which `/readyz` is served.
    fn bind(&self) -> SocketAddr;

    /// Returns true if the process runs one task for an operator instead of serving. Its standard
    /// output then belongs to the operator, so warnings are logged to standard error.
    fn is_tool(&self) -> bool {
        false
    }
}

/// A setting that turns out to be wrong when it is used. Neither `key` nor `source` shows a secret.
#[derive(Debug, thiserror::Error)]
#[error("invalid {key}")]
pub struct ConfigError {
    key: &'static str,
    source: Box<dyn Error + Send + Sync>,
}

impl ConfigError {
    /// Returns the error of the environment variable `key`.
    pub fn new(key: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { key, source: source.into() }
    }
}

/// Settings that all services have.
#[derive(Args, Clone, Debug)]
pub struct CommonConfig {
    /// Logs.
    #[command(flatten)]
    pub log: LogConfig,
    /// Grace period in milliseconds: time for open work to end after the service has stopped accepting more
    #[arg(long, env = "SHUTDOWN_GRACE_MS", default_value = "20000", value_parser = millis)]
    pub shutdown_grace_ms: Duration,
    /// Milliseconds between the signal to stop (/readyz turns 503) and the end of accepting work
    #[arg(long, env = "DRAIN_DELAY_MS", default_value = "5000", value_parser = millis)]
    pub drain_delay_ms: Duration,
}

/// Parses whole milliseconds.
pub fn millis(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_millis)
}

/// Purpose of the process.
pub(crate) enum Invocation<C> {
    /// Runs the service with this configuration.
    Run(C),
    /// Asks the service that listens on this address if it is ready.
    HealthCheck(SocketAddr),
}

/// Reads the configuration of the process. On `--help` and on errors, prints the text and returns the
/// exit code.
pub(crate) fn read<C: ServiceConfig>() -> Result<Invocation<C>, ExitCode> {
    parse(std::env::args_os()).map_err(|error| {
        // Nothing can be done if even this cannot be printed.
        let _ = error.print();
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
            _ => ExitCode::from(EXIT_CONFIG),
        }
    })
}

/// Parses the service's own arguments, and the subcommand that all services have.
fn parse<C: ServiceConfig>(
    arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
) -> Result<Invocation<C>, clap::Error> {
    let check = Command::new(healthcheck::NAME)
        .about("Asks the service that runs here if it is ready; exits with 0 if it is");
    let mut command = C::command().subcommand(check);
    let matches = command.try_get_matches_from_mut(arguments);
    let mut matches = matches.map_err(|error| without_secrets(error, &command))?;
    let checks = matches.subcommand_name() == Some(healthcheck::NAME);
    let config =
        C::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))?;
    Ok(if checks { Invocation::HealthCheck(config.bind()) } else { Invocation::Run(config) })
}

/// Removes the value from the error of an argument whose values are hidden.
fn without_secrets(mut error: clap::Error, command: &Command) -> clap::Error {
    let hidden = |name: &str| {
        let commands = std::iter::once(command).chain(command.get_subcommands());
        let mut arguments = commands.flat_map(Command::get_arguments);
        arguments.any(|known| known.is_hide_env_values_set() && known.to_string() == name)
    };
    if let Some(ContextValue::String(name)) = error.get(ContextKind::InvalidArg)
        && hidden(name)
    {
        error.insert(ContextKind::InvalidValue, ContextValue::String("[redacted]".to_owned()));
    }
    error
}

/// Checks that the certificates in `SSL_CERT_FILE` can be read. Otherwise the only symptom would be
/// that the broker's certificate is not trusted.
pub(crate) fn check_authorities() -> Result<(), ConfigError> {
    const KEY: &str = "SSL_CERT_FILE";
    if std::env::var_os(KEY).is_none_or(|path| path.is_empty()) {
        return Ok(());
    }
    let loaded = rustls_native_certs::load_native_certs();
    if loaded.certs.is_empty() {
        let errors: Vec<String> = loaded.errors.iter().map(ToString::to_string).collect();
        let reason = format!("has no certificate that can be read: {}", errors.join(", "));
        return Err(ConfigError::new(KEY, reason.trim_end_matches(": ")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Parser)]
    struct Plain {
        #[command(flatten)]
        common: CommonConfig,
        #[arg(long, default_value = "0.0.0.0:7")]
        bind: SocketAddr,
        #[arg(long, default_value = "1", hide_env_values = true)]
        secret: u8,
        #[command(subcommand)]
        tool: Option<Tool>,
    }

    #[derive(clap::Subcommand)]
    enum Tool {
        Other,
    }

    impl ServiceConfig for Plain {
        fn common(&self) -> &CommonConfig {
            &self.common
        }

        fn bind(&self) -> SocketAddr {
            self.bind
        }
    }

    #[test]
    fn a_hidden_value_is_not_printed() {
        let error = parse::<Plain>(["service", "--secret", "hunter2"]).err().unwrap().to_string();
        assert!(error.contains("--secret") && error.contains("[redacted]"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_health_check_asks_where_the_service_listens() {
        let parsed = |arguments: &[&str]| parse::<Plain>([&["service"], arguments].concat());
        let Ok(Invocation::HealthCheck(bind)) = parsed(&["--bind", "0.0.0.0:8", "healthcheck"])
        else {
            panic!("no health check");
        };
        assert_eq!(bind.port(), 8);
        assert!(matches!(parsed(&[]), Ok(Invocation::Run(Plain { tool: None, .. }))));
        assert!(matches!(parsed(&["other"]), Ok(Invocation::Run(Plain { tool: Some(_), .. }))));
        assert!(parsed(&["unknown"]).is_err());
    }
}
