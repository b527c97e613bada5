//! Configuration of the gateway.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use auth::{AuthConfig, Secret, limits::Rate};
use broker::BrokerConfig;
use clap::{Parser, Subcommand};
use service::{
    CommonConfig, ConfigError, OriginPattern, ServiceConfig,
    config::{address, millis, number},
    http::{TrustedProxies, prefer},
};
use store::StoreConfig;
use telemetry::traces::TracesConfig;
use url::{Host, Url};

use crate::auth::OperationMacs;

const MAX_WRITE_WAIT_MS: u64 = prefer::MAX_WAIT.as_secs() * 1000;

/// Serves the REST API, publishes commands to RabbitMQ and reads messages from MongoDB
#[derive(Parser, Clone, Debug)]
#[command(name = "gateway", version)]
pub struct Config {
    /// Settings that all services have.
    #[command(flatten)]
    pub common: CommonConfig,
    /// RabbitMQ.
    #[command(flatten)]
    pub broker: BrokerConfig,
    /// MongoDB.
    #[command(flatten)]
    pub store: StoreConfig,
    /// Traces.
    #[command(flatten)]
    pub traces: TracesConfig,
    /// Authentication.
    #[command(flatten)]
    pub auth: AuthConfig,
    /// Proxies in front.
    #[command(flatten)]
    pub trusted_proxies: TrustedProxies,
    /// Address on which the API is served
    #[arg(
        long = "bind",
        env = "GATEWAY_BIND",
        value_name = "GATEWAY_BIND",
        default_value = "0.0.0.0:8000",
        value_parser = address
    )]
    pub bind: SocketAddr,
    /// Milliseconds for which a write waits to be stored before the response is 202
    #[arg(
        long,
        env = "WRITE_WAIT_MS",
        default_value = "5000",
        value_parser = millis(0..=MAX_WRITE_WAIT_MS, 5000)
    )]
    pub write_wait_ms: Duration,
    /// Connections that publish commands, each with one publish in flight; more connections make
    /// smaller batches
    #[arg(
        long,
        env = "PUBLISH_CONNECTIONS",
        default_value_t = 1,
        value_parser = number(1_u16..=64)
    )]
    pub publish_connections: u16,
    /// Maximum number of writes in progress; more wait up to 0.8 s for their turn, then the response is 503
    #[arg(
        long,
        env = "MAX_WAITING_WRITES",
        default_value_t = 1024,
        value_parser = number(1_u32..=1_000_000)
    )]
    pub max_waiting_writes: u32,
    /// URL of the broadcaster, to which WebSockets at /api/chat and all requests for /api/events are passed on
    #[arg(
        long,
        env = "BROADCASTER_URL",
        default_value = "http://localhost:8001",
        // A URL with a password is refused, and must not be printed either.
        hide_env_values = true,
        value_parser = broadcaster_url
    )]
    pub broadcaster_url: Url,
    /// Origins whose pages may call this API, such as `https://app.example` or
    /// `https://*.app.example`, separated by commas; null for pages without an origin, * for all.
    /// Unset: none
    #[arg(long, env = "CORS_ORIGINS", value_delimiter = ',')]
    pub cors_origins: Vec<OriginPattern>,
    /// File with the secret that ties the ids of operations to those who have requested them: at least 32 bytes, the same
    /// for all gateways. Required with AUTH=jwt
    #[arg(long, env = "AUTH_STATE_SECRET_FILE")]
    pub auth_state_secret_file: Option<PathBuf>,
    /// Maximum rate of writes of one user, or of one address without users, at this gateway: requests and seconds, such as
    /// 600/60s. Unset: no limit
    #[arg(long, env = "RATE_LIMIT_WRITES")]
    pub rate_limit_writes: Option<Rate>,
    /// The same for reads, among them the begin of an event stream
    #[arg(long, env = "RATE_LIMIT_READS")]
    pub rate_limit_reads: Option<Rate>,
    /// Task to do instead of serving
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// A task that a gateway can do instead of serving.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Print what /openapi.json serves, the description of the API
    Openapi,
}

impl ServiceConfig for Config {
    fn common(&self) -> &CommonConfig {
        &self.common
    }

    fn bind(&self) -> SocketAddr {
        self.bind
    }

    fn is_tool(&self) -> bool {
        self.command.is_some()
    }

    fn check(&self) -> Result<(), ConfigError> {
        let own = "is this gateway's own address, so a WebSocket would be passed in a circle";
        if is_own_address(&self.broadcaster_url, self.bind) {
            return Err(ConfigError::new("BROADCASTER_URL", own));
        }
        let own = [("AUTH_STATE_SECRET_FILE", self.auth_state_secret_file.is_some())];
        let chosen = self.auth.check_chosen(&own).and_then(|()| self.auth.check());
        chosen.map_err(|(key, expected)| ConfigError::new(key, expected))?;
        self.operation_macs()?;
        TracesConfig::check().map_err(|(key, expected)| ConfigError::new(key, expected))
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = self.broker.warnings();
        warnings.extend(self.store.warnings());
        warnings.extend(self.traces.warnings());
        if !self.is_tool() {
            warnings.extend(self.auth.warnings(self.bind));
        }
        if !self.auth.is_on() && self.auth_state_secret_file.is_some() {
            warnings.push("AUTH_STATE_SECRET_FILE has no effect with AUTH=off".to_owned());
        }
        let limits = [self.rate_limit_writes, self.rate_limit_reads];
        let looks_at_addresses = self.auth.is_on() || limits.iter().any(Option::is_some);
        if !self.trusted_proxies.is_empty() && !looks_at_addresses {
            warnings.push(
                "TRUSTED_PROXIES has no effect without AUTH=jwt, RATE_LIMIT_WRITES or RATE_LIMIT_READS"
                    .to_owned(),
            );
        }
        if self.trusted_proxies.is_empty()
            && self.auth.is_on()
            && limits.iter().any(Option::is_some)
        {
            warnings.push(
                "TRUSTED_PROXIES is not set: if clients come through a proxy, all requests without a valid token count \
                 as those of one address"
                    .to_owned(),
            );
        }
        if let Some(everybody) = self.trusted_proxies.everybody() {
            warnings.push(format!(
                "TRUSTED_PROXIES trusts every client ({everybody}): each may claim any address, so that no limit by \
                 address holds"
            ));
        }
        if self.common.shutdown_grace_ms / 2 < self.write_wait_ms {
            warnings.push(
                "SHUTDOWN_GRACE_MS is less than twice WRITE_WAIT_MS: writes that wait when the \
                 gateway stops are answered 202 earlier"
                    .to_owned(),
            );
        }
        warnings
    }
}

impl Config {
    /// Returns what signs the ids of operations; `None` with `AUTH=off`.
    pub(crate) fn operation_macs(&self) -> Result<Option<OperationMacs>, ConfigError> {
        const KEY: &str = "AUTH_STATE_SECRET_FILE";
        if !self.auth.is_on() {
            return Ok(None);
        }
        let path = self.auth_state_secret_file.as_deref().ok_or_else(|| {
            ConfigError::new(
                KEY,
                "is required with AUTH=jwt: a file with a secret of at least 32 bytes",
            )
        })?;
        let secret = Secret::read(path).map_err(|expected| ConfigError::new(KEY, expected))?;
        Ok(Some(OperationMacs::new(&secret)))
    }
}

fn broadcaster_url(text: &str) -> Result<Url, &'static str> {
    let is_name =
        |name: &str| name.chars().all(|it| it.is_ascii_alphanumeric() || "-._".contains(it));
    let is_base = |url: &Url| {
        url.scheme() == "http"
            && url.has_host()
            && url.domain().is_none_or(is_name)
            && url.port() != Some(0)
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    };
    let url = Url::parse(text).ok().filter(is_base);
    url.ok_or("must be an http URL without a password or a query, such as http://broadcaster:8001")
}

/// Returns true if the gateway that listens on `bind` would answer requests to `url`.
fn is_own_address(url: &Url, bind: SocketAddr) -> bool {
    let host = match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name.eq_ignore_ascii_case("localhost").then_some(IpAddr::from(Ipv4Addr::LOCALHOST))
        }
        Some(Host::Ipv4(ip)) => Some(ip.into()),
        Some(Host::Ipv6(ip)) => Some(IpAddr::from(ip).to_canonical()),
        None => None,
    };
    let own = bind.ip().to_canonical();
    // A connection to the unspecified address leads to this machine.
    let is_here = |ip: IpAddr| ip.is_loopback() || ip.is_unspecified();
    let same_host = host.is_some_and(|host| host == own || is_here(own) && is_here(host));
    same_host && url.port_or_known_default() == Some(bind.port())
}

#[cfg(test)]
mod tests {
    use telemetry::error_chain;

    use super::*;

    #[test]
    fn a_bad_value_is_refused_with_the_name_of_its_variable() {
        for (flag, value, name) in [
            ("--write-wait-ms", "30001", "WRITE_WAIT_MS"),
            ("--publish-connections", "0", "PUBLISH_CONNECTIONS"),
            ("--broadcaster-url", "ws://broadcaster", "BROADCASTER_URL"),
            ("--broadcaster-url", "http://*", "BROADCASTER_URL"),
            ("--broadcaster-url", "http://a,b", "BROADCASTER_URL"),
            ("--broadcaster-url", "http://user:hunter2@broadcaster", "BROADCASTER_URL"),
            ("--broadcaster-url", "http://broadcaster:8001/?a=b", "BROADCASTER_URL"),
            ("--cors-origins", "https://a.example,b.example", "CORS_ORIGINS"),
            ("--rate-limit-writes", "600", "RATE_LIMIT_WRITES"),
            ("--rate-limit-reads", "0/60s", "RATE_LIMIT_READS"),
            ("--trusted-proxies", "10.0.0.0/33", "TRUSTED_PROXIES"),
        ] {
            let error = Config::try_parse_from(["gateway", flag, value]).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn a_setting_without_effect_is_named() {
        let warned = |arguments: &[&str]| {
            let always = ["gateway", "--bind", "127.0.0.1:8000"];
            Config::try_parse_from([&always, arguments].concat()).unwrap().warnings().join("\n")
        };
        let proxies = ["--trusted-proxies", "10.0.0.0/8"];
        assert!(warned(&proxies).contains("TRUSTED_PROXIES has no effect"));
        let limited = [&proxies[..], &["--rate-limit-reads", "1/1s"]].concat();
        assert_eq!(warned(&limited), "");
        let everybody = ["--trusted-proxies", "::/0", "--rate-limit-reads", "1/1s"];
        assert!(warned(&everybody).contains("trusts every client"));
        assert!(warned(&["--auth-state-secret-file", "x"]).contains("AUTH_STATE_SECRET_FILE"));
        let behind_proxies = "TRUSTED_PROXIES is not set";
        assert!(warned(&["--auth", "jwt", "--rate-limit-reads", "1/1s"]).contains(behind_proxies));
        assert!(!warned(&["--auth", "jwt"]).contains(behind_proxies));
    }

    #[test]
    fn a_secret_for_tokens_is_not_given_in_vain() {
        let check = |arguments: &[&str]| {
            let secret = ["gateway", "--auth-state-secret-file", "x"];
            Config::try_parse_from([&secret, arguments].concat()).unwrap().check()
        };
        let error = error_chain(&check(&[]).unwrap_err()).to_string();
        assert!(
            error.contains("invalid AUTH") && error.contains("AUTH_STATE_SECRET_FILE"),
            "{error}"
        );
        assert!(check(&["--auth", "off"]).is_ok());
    }

    #[test]
    fn a_gateway_that_is_its_own_broadcaster_is_refused() {
        let check = |bind: &str, url: &str| {
            let arguments = ["gateway", "--bind", bind, "--broadcaster-url", url];
            Config::try_parse_from(arguments).unwrap().check()
        };
        assert!(check("0.0.0.0:8000", "http://localhost:8000").is_err());
        assert!(check("127.0.0.1:80", "http://127.0.0.1").is_err());
        assert!(check("10.0.0.1:8000", "http://10.0.0.1:8000").is_err());
        for url in [
            "http://0.0.0.0:8000",
            "http://[::]:8000",
            "http://[::1]:8000",
            "http://[::ffff:127.0.0.1]:8000",
            "http://localhost.:8000",
        ] {
            assert!(check("0.0.0.0:8000", url).is_err(), "{url}");
            assert!(check("[::]:8000", url).is_err(), "{url}");
            assert!(check("0.0.0.0:8001", url).is_ok(), "{url}");
        }
        assert!(check("[::ffff:10.0.0.1]:8000", "http://10.0.0.1:8000").is_err());
        assert!(check("10.0.0.1:8000", "http://0.0.0.0:8000").is_ok());
        assert!(check("0.0.0.0:8000", "http://broadcaster:8000").is_ok());
        assert!(check("0.0.0.0:8000", "http://localhost:8001").is_ok());
    }
}

#[cfg(test)]
mod documentation {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn lists_every_setting() {
        testkit::check_settings_documented(&Config::command(), "Gateway").unwrap();
    }
}
