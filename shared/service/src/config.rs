//! Configuration by flags and environment variables of the same meaning. A bad value ends the
//! process before it opens a port or a connection, with a message that names the key.

use std::{ffi::OsString, fmt, net::SocketAddr, process::ExitCode, str::FromStr, time::Duration};

use clap::{
    Args, Command, Parser,
    error::{ContextKind, ContextValue, ErrorKind},
};
use telemetry::logging::LogConfig;
use url::Url;

use crate::healthcheck;

/// `EX_CONFIG` of BSD's sysexits.h: the configuration is wrong, and a restart won't mend it.
pub const EXIT_CONFIG: u8 = 78;

/// A service's configuration.
pub trait ServiceConfig: Parser {
    /// What all services share.
    fn common(&self) -> &CommonConfig;

    /// Where `/readyz` is served.
    fn bind(&self) -> SocketAddr;

    /// Whether the process does one thing for a person and ends, instead of serving. Its standard
    /// output is that person's, so logs go to standard error, and only warnings.
    fn is_tool(&self) -> bool {
        false
    }

    /// What clap can't check by itself, secrets above all (clap would print them).
    fn validate(&self) -> Result<(), ConfigError>;
}

/// A value that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {reason}")]
pub struct ConfigError {
    /// The environment variable's name.
    pub key: &'static str,
    /// What is wrong with it; never the value itself where that may be secret.
    pub reason: String,
}

impl ConfigError {
    /// `key` can't be used because of `reason`.
    pub fn new(key: &'static str, reason: impl fmt::Display) -> Self {
        Self { key, reason: reason.to_string() }
    }
}

/// What all services share.
#[derive(Args, Clone, Debug)]
pub struct CommonConfig {
    /// The broker, as an AMQP URI
    #[arg(
        long,
        env = "RABBITMQ_URL",
        default_value = "amqp://guest:guest@localhost:5672/%2f",
        hide_env_values = true
    )]
    pub rabbitmq_url: SecretUrl,
    /// The database, as a MongoDB connection string
    #[arg(
        long,
        env = "MONGO_URI",
        default_value = "mongodb://localhost:27017",
        hide_env_values = true
    )]
    pub mongo_uri: SecretUrl,
    /// The name of the MongoDB database
    #[arg(long, env = "MONGO_DATABASE", default_value = "messages")]
    pub mongo_database: String,
    /// What is logged, and how
    #[command(flatten)]
    pub log: LogConfig,
    /// Milliseconds that open work has to end in, once the service has stopped taking more
    #[arg(long, env = "SHUTDOWN_GRACE_MS", default_value = "20000", value_parser = millis)]
    pub shutdown_grace_ms: Duration,
    /// Milliseconds between the signal to stop (/readyz turns 503) and the end of taking new work
    #[arg(long, env = "DRAIN_DELAY_MS", default_value = "5000", value_parser = millis)]
    pub drain_delay_ms: Duration,
}

/// A URL that may hold a password. It shows itself only without.
#[derive(Clone)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// The whole URL, password included: for connecting, never for printing.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The URL, where it has a host and one of these schemes, and holds no user and no password: one
    /// that others may read.
    #[must_use]
    pub fn public(&self, schemes: &[&str]) -> Option<Url> {
        let url: Url = self.0.parse().ok()?;
        let anonymous = url.username().is_empty() && url.password().is_none();
        (schemes.contains(&url.scheme()) && url.has_host() && anonymous).then_some(url)
    }
}

impl FromStr for SecretUrl {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Everything up to the last @ may be user information; the rest may hold options with
        // secrets. Only scheme and host are certain to be harmless.
        let scheme = self.0.split_once("://").map_or("", |(scheme, _)| scheme);
        write!(formatter, "{scheme}://[redacted]")
    }
}

/// Reads a `Duration` from whole milliseconds.
pub fn millis(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_millis)
}

/// What the process was started for.
pub(crate) enum Invocation<C> {
    /// What the service itself makes of its configuration.
    Run(C),
    /// To ask the service that listens there whether it is ready.
    HealthCheck(SocketAddr),
}

/// Reads and checks the process's configuration. On `--help` and on errors it prints what clap or
/// the check has to say and gives the code to exit with.
pub(crate) fn read<C: ServiceConfig>() -> Result<Invocation<C>, ExitCode> {
    let invocation = parse::<C>(std::env::args_os()).map_err(|error| {
        // Nothing can be done where even this can't be printed.
        let _ = error.print();
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
            _ => ExitCode::from(EXIT_CONFIG),
        }
    })?;
    let Invocation::Run(config) = &invocation else { return Ok(invocation) };
    check_common(config.common()).and_then(|()| config.validate()).map_err(|error| {
        eprintln!("error: {error}");
        ExitCode::from(EXIT_CONFIG)
    })?;
    Ok(invocation)
}

/// A service's own arguments, and a subcommand that all services have.
fn parse<C: ServiceConfig>(
    arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
) -> Result<Invocation<C>, clap::Error> {
    let check = Command::new(healthcheck::NAME)
        .about("Asks the service that runs here whether it is ready; exits with 0 where it is");
    let mut command = C::command().subcommand(check);
    let matches = command.try_get_matches_from_mut(arguments);
    let mut matches = matches.map_err(|error| without_secrets(error, &command))?;
    let checks = matches.subcommand_name() == Some(healthcheck::NAME);
    let config =
        C::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))?;
    Ok(if checks { Invocation::HealthCheck(config.bind()) } else { Invocation::Run(config) })
}

/// Takes the value out of an error where its argument's values are hidden.
fn without_secrets(mut error: clap::Error, command: &Command) -> clap::Error {
    let hidden = |name: &str| {
        let mut arguments = command.get_arguments();
        arguments.any(|known| known.is_hide_env_values_set() && known.to_string() == name)
    };
    if let Some(ContextValue::String(name)) = error.get(ContextKind::InvalidArg)
        && hidden(name)
    {
        error.insert(ContextKind::InvalidValue, ContextValue::String("[redacted]".to_owned()));
    }
    error
}

fn check_common(common: &CommonConfig) -> Result<(), ConfigError> {
    common.log.validate().map_err(|error| ConfigError::new("RUST_LOG", error))?;
    let name = &common.mongo_database;
    if name.is_empty() || name.len() > 63 || name.contains(['/', '\\', '.', ' ', '"', '$', '\0']) {
        let rule = "must be 1 to 63 bytes without any of / \\ . \" $ or spaces";
        return Err(ConfigError::new("MONGO_DATABASE", rule));
    }
    check_authorities()
}

/// A file of authorities that can't be used would show only as a broker whose certificate nobody
/// vouches for.
fn check_authorities() -> Result<(), ConfigError> {
    const KEY: &str = "SSL_CERT_FILE";
    if std::env::var_os(KEY).is_none_or(|path| path.is_empty()) {
        return Ok(());
    }
    let loaded = rustls_native_certs::load_native_certs();
    if loaded.certs.is_empty() {
        let errors: Vec<String> = loaded.errors.iter().map(ToString::to_string).collect();
        let reason = format!("has no certificate that can be read {}", errors.join(", "));
        return Err(ConfigError::new(KEY, reason.trim_end()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_url_does_not_show_its_password() {
        let url: SecretUrl = "amqp://user:hunter2@host/%2f".parse().unwrap();
        assert_eq!(format!("{url:?}"), "amqp://[redacted]");
        assert!(url.expose().contains("hunter2"));
    }

    #[derive(Parser)]
    struct Plain {
        #[command(flatten)]
        common: CommonConfig,
        #[arg(long, default_value = "0.0.0.0:7")]
        bind: SocketAddr,
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

        fn validate(&self) -> Result<(), ConfigError> {
            Ok(())
        }
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
