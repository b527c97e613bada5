//! Configuration by flags and by environment variables. An invalid value ends the process before it
//! opens a port or a connection, with an error that names the variable.

mod arguments;
mod values;

use std::{
    borrow::Cow,
    error::Error,
    ffi::{OsStr, OsString},
    io,
    net::{SocketAddr, UdpSocket},
    process::ExitCode,
    time::Duration,
};

use clap::{
    Args, Command, Parser,
    error::{ContextKind, ContextValue, ErrorKind},
};
use telemetry::logging::LogConfig;

use crate::healthcheck;
pub use values::{address, hours, millis, number};

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

    /// Fails if settings contradict each other.
    fn check(&self) -> Result<(), ConfigError> {
        Ok(())
    }

    /// Returns what an operator should know about settings that are valid, such as one without
    /// effect. Each text names its setting.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A setting that turns out to be wrong when it is used. Neither `key` nor `source` shows a secret.
#[derive(Debug, thiserror::Error)]
#[error("invalid {key}")]
pub struct ConfigError {
    key: Cow<'static, str>,
    source: Box<dyn Error + Send + Sync>,
}

impl ConfigError {
    /// Returns the error of the environment variable `key`.
    pub fn new(
        key: impl Into<Cow<'static, str>>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { key: key.into(), source: source.into() }
    }
}

/// Settings that all services have.
#[derive(Args, Clone, Debug)]
pub struct CommonConfig {
    /// Logs.
    #[command(flatten)]
    pub log: LogConfig,
    /// Grace period in milliseconds: time for open work to end after the service has stopped accepting more
    #[arg(long, env = "SHUTDOWN_GRACE_MS", default_value = "20000", value_parser = values::stop_millis())]
    pub shutdown_grace_ms: Duration,
    /// Milliseconds between the signal to stop (/readyz turns 503) and the end of accepting work
    #[arg(long, env = "DRAIN_DELAY_MS", default_value = "5000", value_parser = values::stop_millis())]
    pub drain_delay_ms: Duration,
    /// Address and port on which /metrics is served instead of the service's own port, so that a proxy in front cannot
    /// reach it. Unset: the service's own port
    #[arg(long, env = "METRICS_BIND", value_parser = values::address)]
    pub metrics_bind: Option<SocketAddr>,
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
    let variable = |name: &OsStr| std::env::var_os(name);
    parse(std::env::args_os(), variable).map_err(|error| {
        // Nothing can be done if even this cannot be printed.
        let _ = error.print();
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
            _ => ExitCode::from(EXIT_CONFIG),
        }
    })
}

/// Parses the service's own arguments, and the subcommand that all services have. `variable` reads the
/// environment.
fn parse<C: ServiceConfig>(
    arguments: impl IntoIterator<Item = impl Into<OsString>>,
    variable: impl Fn(&OsStr) -> Option<OsString>,
) -> Result<Invocation<C>, clap::Error> {
    let check = Command::new(healthcheck::NAME)
        .about("Asks the service that runs here if it is ready; exits with 0 if it is");
    let documented = C::command().subcommand(check);
    let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    let all = arguments::with_environment(&documented, arguments.clone(), variable);
    let mut command = arguments::without_variables(documented.clone());
    let mut matches = command.try_get_matches_from_mut(all).map_err(|error| {
        // Whoever asks for help gets it, whatever the variables are. This one lists them.
        let asked = documented.try_get_matches_from(arguments).err();
        let help = [ErrorKind::DisplayHelp, ErrorKind::DisplayVersion];
        // Arguments of subcommands have no names before.
        command.build();
        let help = asked.filter(|asked| help.contains(&asked.kind()));
        help.unwrap_or_else(|| readable(error, &command))
    })?;
    let checks = matches.subcommand_name() == Some(healthcheck::NAME);
    let config =
        C::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))?;
    Ok(if checks { Invocation::HealthCheck(config.bind()) } else { Invocation::Run(config) })
}

/// Fails if `SSL_CERT_FILE` or `SSL_CERT_DIR` names no certificate that can be read.
pub(crate) fn check_authorities() -> Result<(), ConfigError> {
    telemetry::authorities::check().map_err(|invalid| ConfigError::new(invalid.key, invalid.reason))
}

/// Fails if no interface of this machine has an address to listen on, or if two listeners would have the same one.
pub(crate) fn check_bind<C: ServiceConfig>(config: &C) -> Result<(), ConfigError> {
    let (bind, metrics) = (config.bind(), config.common().metrics_bind);
    if metrics.is_some_and(|metrics| metrics == bind && metrics.port() != 0) {
        let own = "is the address of the service itself; leave it out to serve /metrics there";
        return Err(ConfigError::new("METRICS_BIND", own));
    }
    let command = C::command();
    let argument = command.get_arguments().find(|it| it.get_id() == "bind");
    let key = argument.and_then(|it| it.get_env()?.to_str()).unwrap_or("--bind").to_owned();
    for (key, address) in [(key, Some(bind)), ("METRICS_BIND".to_owned(), metrics)] {
        let Some(address) = address else { continue };
        let ip = address.ip();
        // Any socket can tell, and this one is in nobody's way.
        let tried = UdpSocket::bind((ip, 0));
        if tried.is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable) {
            let reason = format!("this machine does not have the address {ip}");
            return Err(ConfigError::new(key, reason));
        }
    }
    Ok(())
}

/// Removes from an error the value of an argument whose values are hidden, and anything else that may
/// hold a password: an address in a place where none is expected.
fn readable(mut error: clap::Error, command: &Command) -> clap::Error {
    let hidden = matches!(error.get(ContextKind::InvalidArg),
        Some(ContextValue::String(name)) if hides_values(command, name));
    let is_secret = |kind, text: &str| match kind {
        ContextKind::InvalidValue => hidden || text.contains('@'),
        _ => text.contains("://") || text.contains('@'),
    };
    let redacted: Vec<(ContextKind, ContextValue)> = error
        .context()
        .filter_map(|(kind, value)| match value {
            ContextValue::String(text) if is_secret(kind, text) => {
                Some((kind, ContextValue::String("[redacted]".to_owned())))
            }
            // A suggestion repeats the argument.
            ContextValue::StyledStrs(texts)
                if texts.iter().any(|text| is_secret(kind, &text.to_string())) =>
            {
                Some((kind, ContextValue::None))
            }
            _ => None,
        })
        .collect();
    for (kind, value) in redacted {
        error.insert(kind, value);
    }
    error
}

/// Returns true if the argument `name`, of the command or a subcommand, has values that must not be
/// printed.
fn hides_values(command: &Command, name: &str) -> bool {
    let mut arguments = command.get_arguments();
    arguments.any(|known| known.is_hide_env_values_set() && known.to_string() == name)
        || command.get_subcommands().any(|subcommand| hides_values(subcommand, name))
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
        #[arg(long, env = "PORT", value_parser = number(1_u16..=9))]
        port: Option<u16>,
        #[command(subcommand)]
        tool: Option<Tool>,
    }

    #[derive(clap::Subcommand)]
    enum Tool {
        Other(Other),
    }

    #[derive(Args)]
    struct Other {
        #[arg(long, env = "SOURCE", value_name = "SOURCE", value_parser = number(1_u16..=9))]
        source: Option<u16>,
        #[arg(long, env = "FILE")]
        file: Option<String>,
        #[arg(long)]
        dry: bool,
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
        let error =
            parse::<Plain>(["service", "--secret", "hunter2"], |_| None).err().unwrap().to_string();
        assert!(error.contains("--secret") && error.contains("[redacted]"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn white_space_is_trimmed_and_an_empty_setting_counts_as_unset() {
        let parsed = |arguments: &[&str], variable: &'static str| {
            let variable = move |name: &OsStr| (name == "PORT").then(|| variable.into());
            match parse::<Plain>([&["service"], arguments].concat(), variable) {
                Ok(Invocation::Run(plain)) => Ok(plain.port),
                Ok(Invocation::HealthCheck(_)) => unreachable!("not asked for"),
                Err(error) => Err(error.to_string()),
            }
        };
        assert_eq!(parsed(&[], " 7\n"), Ok(Some(7)));
        assert_eq!(parsed(&[], "  "), Ok(None));
        assert_eq!(parsed(&["--port", " 8 "], "7"), Ok(Some(8)), "a flag wins");
        assert_eq!(parsed(&["--port="], "7"), Ok(Some(7)), "an empty flag is none");
        assert_eq!(parsed(&["--port", "", "other"], ""), Ok(None));
        let error = parsed(&[], "seven").unwrap_err();
        assert!(error.contains("PORT") && error.contains("from 1 to 9"), "{error}");
        assert!(parsed(&["--port"], "").is_err(), "the value is missing");
    }

    #[test]
    fn a_password_in_the_wrong_place_is_not_printed() {
        let uri = "mongodb://u:hunter2@h";
        let assigned = format!("--mongo-url={uri}");
        for arguments in [
            &[uri][..],
            &["other", uri],
            &["u:hunter2@h"],
            &[assigned.as_str()],
            &["--mongo-url", uri],
            &["--bind", uri],
            &["--port", uri],
            &["other", "--source", uri],
            &["--dry=mongodb://u:hunter2@h"],
            &["other", "--dry=mongodb://u:hunter2@h"],
        ] {
            let arguments = [&["service"], arguments].concat();
            let error = parse::<Plain>(arguments.clone(), |_| None).err().unwrap().to_string();
            assert!(!error.contains("hunter2"), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn a_subcommand_has_settings_like_those_of_the_service() {
        let parsed = |arguments: &[&str], variable: &'static str| {
            let variable = move |name: &OsStr| (name == "SOURCE").then(|| variable.into());
            match parse::<Plain>([&["service"], arguments].concat(), variable) {
                Ok(Invocation::Run(Plain { tool: Some(Tool::Other(other)), .. })) => {
                    Ok(other.source)
                }
                Ok(_) => unreachable!("another command"),
                Err(error) => Err(error.to_string()),
            }
        };
        assert_eq!(parsed(&["other"], " 7\n"), Ok(Some(7)));
        assert_eq!(parsed(&["--port", "3", "other"], "  "), Ok(None));
        assert_eq!(parsed(&["other", "--source", "8"], "7"), Ok(Some(8)), "a flag wins");
        assert_eq!(parsed(&["other", "--source="], "7"), Ok(Some(7)), "an empty flag is none");
        let error = parsed(&["other"], "seven").unwrap_err();
        assert!(error.contains("SOURCE") && error.contains("from 1 to 9"), "{error}");
    }

    #[test]
    fn a_flag_is_no_value_of_the_flag_before_it() {
        for arguments in [
            &["other", "--file", "--dry"][..],
            &["other", "--file", "--source", "7"],
            &["--port", "--bind", "0.0.0.0:9"],
        ] {
            let arguments = [&["service"], arguments].concat();
            let error = parse::<Plain>(arguments.clone(), |_| None).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidValue, "{arguments:?}: {error}");
        }
        let dry = parse::<Plain>(["service", "other", "--file=--dry", "--dry"], |_| None);
        let Ok(Invocation::Run(Plain { tool: Some(Tool::Other(other)), .. })) = dry else {
            panic!("refused")
        };
        assert_eq!((other.file.as_deref(), other.dry), (Some("--dry"), true));
    }

    #[test]
    fn a_dash_alone_is_a_value_and_what_is_no_flag_stays_as_it_is() {
        let parsed = |arguments: &[&str]| {
            let variable = |name: &OsStr| (name == "FILE").then(|| "a".into());
            match parse::<Plain>([&["service"], arguments].concat(), variable) {
                Ok(Invocation::Run(Plain { tool: Some(Tool::Other(other)), .. })) => Ok(other.file),
                Ok(_) => unreachable!("another command"),
                Err(error) => Err(error.kind()),
            }
        };
        assert_eq!(parsed(&["other"]), Ok(Some("a".to_owned())));
        assert_eq!(parsed(&["other", "--file", "-"]), Ok(Some("-".to_owned())));
        // An empty text is no setting: neither behind a flag without a value nor behind `--`.
        for arguments in [&["other", "--dry", ""][..], &["other", "--", "--file", ""]] {
            assert_eq!(parsed(arguments), Err(ErrorKind::UnknownArgument), "{arguments:?}");
        }
    }

    #[test]
    fn help_names_the_variables() {
        let help = parse::<Plain>(["service", "--help"], |_| Some("bad".into())).err().unwrap();
        assert_eq!(help.kind(), ErrorKind::DisplayHelp);
        assert!(help.to_string().contains("env: PORT"), "{help}");
    }

    #[test]
    fn a_number_without_bounds_in_sight_does_not_overflow() {
        let huge = ["service", "--drain-delay-ms", "18446744073709551615"];
        let error = parse::<Plain>(huge, |_| None).err().unwrap().to_string();
        assert!(error.contains("DRAIN_DELAY_MS") && error.contains("3600000"), "{error}");
    }

    #[test]
    fn a_health_check_asks_where_the_service_listens() {
        let parsed =
            |arguments: &[&str]| parse::<Plain>([&["service"], arguments].concat(), |_| None);
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
