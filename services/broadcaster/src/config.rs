//! Configuration of the broadcaster.

use std::{net::SocketAddr, time::Duration};

use auth::{AuthConfig, limits::Rate};
use broker::BrokerConfig;
use clap::{ArgAction, Parser, Subcommand};
use service::{
    CommonConfig, ConfigError, OriginPattern, ServiceConfig,
    config::{address, millis, number},
    http::TrustedProxies,
};
use store::StoreConfig;

/// Sends a random stored message to every WebSocket subscriber, each second, and changes to those who follow them
#[derive(Parser, Clone, Debug)]
#[command(name = "broadcaster", version)]
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
    /// Address on which /api/chat, /api/events, /livez, /readyz and /metrics are served
    #[arg(
        long = "bind",
        env = "BROADCASTER_BIND",
        value_name = "BROADCASTER_BIND",
        default_value = "0.0.0.0:8001",
        value_parser = address
    )]
    pub bind: SocketAddr,
    /// Milliseconds between two frames (10 to 3600000); the same for all replicas
    #[arg(
        long,
        env = "BROADCAST_INTERVAL_MS",
        default_value = "1000",
        value_parser = millis(10..=3_600_000, 1000)
    )]
    pub broadcast_interval_ms: Duration,
    /// Maximum number of subscribers of this replica; beyond it the response is 503
    #[arg(
        long,
        env = "MAX_CONNECTIONS",
        default_value_t = 19_000,
        value_parser = number(1..=u32::MAX)
    )]
    pub max_connections: u32,
    /// Maximum number of subscribers from one address (with IPv6, from one /64 network); beyond it
    /// the response is 429. Unset: no limit
    #[arg(
        long,
        env = "MAX_CONNECTIONS_PER_ADDRESS",
        value_parser = number(1..=u32::MAX)
    )]
    pub max_connections_per_address: Option<u32>,
    /// Proxies in front.
    #[command(flatten)]
    pub trusted_proxies: TrustedProxies,
    /// Origins whose pages may subscribe, such as `https://app.example` or `https://*.app.example`,
    /// separated by commas; null for pages without an origin, * for all. Unset: all for /api/chat, and for
    /// /api/events those of the host that is asked
    #[arg(long, env = "ALLOWED_ORIGINS", value_delimiter = ',')]
    pub allowed_origins: Option<Vec<OriginPattern>>,
    /// Maximum number of event streams of one user at this replica; a further one displaces the oldest. Users are told apart
    /// by their tokens or, with AUTH=off, by whom the streams follow. With AUTH=jwt, a user may have as many WebSockets of
    /// /api/chat open, and as many polls that do not wait
    #[arg(
        long,
        env = "MAX_STREAMS_PER_USER",
        default_value_t = 8,
        value_parser = number(1_u32..=10_000)
    )]
    pub max_streams_per_user: u32,
    /// Maximum rate of reads of one user, or of one address without users, at this replica: requests and seconds, such as
    /// 3000/60s. Every request for /api/events is one, and so is every handshake. Unset: no limit
    #[arg(long, env = "RATE_LIMIT_READS")]
    pub rate_limit_reads: Option<Rate>,
    /// Tokens of clients.
    #[command(flatten)]
    pub auth: AuthConfig,
    /// Whether every valid token opens /api/chat, which sends random messages of everybody (true or false). Else only one
    /// with the scope broadcast:read does
    #[arg(long, env = "CHAT_PUBLIC", default_value_t = false, action = ArgAction::Set)]
    pub chat_public: bool,
    /// Task to do instead of serving
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// A task that a broadcaster can do instead of serving.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Print what /asyncapi.json serves, the description of the WebSocket
    Asyncapi,
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
        self.auth.check().map_err(|(key, expected)| ConfigError::new(key, expected))
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = self.broker.warnings();
        warnings.extend(self.store.warnings());
        if !self.is_tool() {
            warnings.extend(self.auth.warnings(self.bind));
        }
        if self.chat_public && !self.auth.is_on() {
            warnings.push("CHAT_PUBLIC has no effect with AUTH=off".into());
        }
        match self.max_connections_per_address {
            None if !self.trusted_proxies.is_empty()
                && !self.auth.is_on()
                && self.rate_limit_reads.is_none() =>
            {
                warnings.push(
                    "TRUSTED_PROXIES has no effect without MAX_CONNECTIONS_PER_ADDRESS, RATE_LIMIT_READS or AUTH=jwt"
                        .into(),
                );
            }
            Some(limit) if limit >= self.max_connections => warnings.push(
                "MAX_CONNECTIONS_PER_ADDRESS has no effect: it is not below MAX_CONNECTIONS".into(),
            ),
            _ => {}
        }
        if let Some(everybody) = self.trusted_proxies.everybody() {
            warnings.push(format!(
                "TRUSTED_PROXIES trusts every client ({everybody}): each may claim any address, so \
                 that limits of addresses limit nobody"
            ));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Config, String> {
        Config::try_parse_from([&["broadcaster"], arguments].concat())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_bad_value_is_refused_with_the_name_of_its_variable() {
        for (flag, value, name) in [
            ("--bind", "nowhere", "BROADCASTER_BIND"),
            ("--broadcast-interval-ms", "9", "BROADCAST_INTERVAL_MS"),
            ("--broadcast-interval-ms", "3600001", "BROADCAST_INTERVAL_MS"),
            ("--max-connections", "0", "MAX_CONNECTIONS"),
            ("--max-connections-per-address", "0", "MAX_CONNECTIONS_PER_ADDRESS"),
            ("--trusted-proxies", "10.0.0.0/33", "TRUSTED_PROXIES"),
            ("--allowed-origins", "https://a.example,b.example", "ALLOWED_ORIGINS"),
            ("--allowed-origins", "", "ALLOWED_ORIGINS"),
            ("--rate-limit-reads", "600", "RATE_LIMIT_READS"),
        ] {
            let error = parse(&[flag, value]).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn trusting_everybody_is_a_warning() {
        for everybody in ["0.0.0.0/0", "::/0", "::ffff:0:0/96"] {
            let trusting = ["--trusted-proxies", everybody, "--max-connections-per-address", "5"];
            let warnings = parse(&trusting).unwrap().warnings().join("; ");
            assert!(warnings.contains("every client"), "{everybody}: {warnings}");
        }
    }

    #[test]
    fn origins_are_separated_by_commas() {
        let config = parse(&["--allowed-origins", "https://a.example,http://b.example"]).unwrap();
        assert_eq!(config.allowed_origins.map(|origins| origins.len()), Some(2));
    }
}

#[cfg(test)]
mod documentation {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn lists_every_setting() {
        testkit::check_settings_documented(&Config::command(), "Broadcaster").unwrap();
    }
}
