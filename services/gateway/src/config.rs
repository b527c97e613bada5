//! The gateway's configuration.

use std::{net::SocketAddr, str::FromStr, time::Duration};

use broker::BrokerUrl;
use clap::{Parser, Subcommand};
use service::{
    CommonConfig, ConfigError, InvalidOrigin, Origin, ServiceConfig,
    config::{SecretUrl, millis},
};
use store::StoreSettings;
use telemetry::traces::TracesConfig;
use url::Url;

/// The longest that a client may ask a write to wait for.
pub(crate) const MAX_WRITE_WAIT: Duration = Duration::from_secs(30);

/// Takes REST calls, publishes commands to RabbitMQ and reads messages from MongoDB
#[derive(Parser, Clone, Debug)]
#[command(name = "gateway", version)]
pub struct Config {
    /// What all services share.
    #[command(flatten)]
    pub common: CommonConfig,
    /// Where spans are sent, and which.
    #[command(flatten)]
    pub traces: TracesConfig,
    /// Where the API is served
    #[arg(
        long = "bind",
        env = "GATEWAY_BIND",
        value_name = "GATEWAY_BIND",
        default_value = "0.0.0.0:8000"
    )]
    pub bind: SocketAddr,
    /// Milliseconds a write waits to be stored before it is answered 202
    #[arg(long, env = "WRITE_WAIT_MS", default_value = "5000", value_parser = millis)]
    pub write_wait_ms: Duration,
    /// Connections that publish commands, each with one publish in flight; more of them make smaller
    /// batches
    #[arg(
        long,
        env = "PUBLISH_CONNECTIONS",
        default_value_t = 1,
        value_parser = clap::value_parser!(u16).range(1..=64)
    )]
    pub publish_connections: u16,
    /// Writes that wait at most; more are answered 503
    #[arg(
        long,
        env = "MAX_WAITING_WRITES",
        default_value_t = 4096,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub max_waiting_writes: u32,
    /// Where the broadcaster is; WebSockets at /api/chat are tunnelled there
    #[arg(
        long,
        env = "BROADCASTER_URL",
        default_value = "http://localhost:8001",
        hide_env_values = true
    )]
    pub broadcaster_url: SecretUrl,
    /// Origins whose pages may call this API, such as `https://app.example`, separated by commas;
    /// * for all; none where this is not set
    #[arg(long, env = "CORS_ORIGINS", value_delimiter = ',')]
    pub cors_origins: Vec<AllowedOrigin>,
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

/// One entry of `CORS_ORIGINS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedOrigin {
    /// `*`: every page.
    Any,
    /// The pages of this origin.
    Origin(Origin),
}

impl FromStr for AllowedOrigin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim() == "*" { Ok(Self::Any) } else { text.parse().map(Self::Origin) }
    }
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

    fn validate(&self) -> Result<(), ConfigError> {
        BrokerUrl::parse(self.common.rabbitmq_url.expose())
            .map_err(|error| ConfigError::new("RABBITMQ_URL", error))?;
        StoreSettings::check_uri(self.common.mongo_uri.expose())
            .map_err(|error| ConfigError::new("MONGO_URI", error))?;
        if self.write_wait_ms > MAX_WRITE_WAIT {
            return Err(ConfigError::new("WRITE_WAIT_MS", "must be at most 30000"));
        }
        self.broadcaster()?;
        Ok(())
    }
}

impl Config {
    /// Where the broadcaster is, checked.
    pub(crate) fn broadcaster(&self) -> Result<Url, ConfigError> {
        self.broadcaster_url.public(&["http"]).ok_or_else(|| {
            let rule = "must be an http URL without a password, such as http://broadcaster:8001";
            ConfigError::new("BROADCASTER_URL", rule)
        })
    }
}
