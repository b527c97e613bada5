//! Configuration of the gateway.

use std::{net::SocketAddr, time::Duration};

use axum::http::HeaderValue;
use broker::BrokerConfig;
use clap::{Parser, Subcommand, builder::TypedValueParser, value_parser};
use service::{CommonConfig, Origin, ServiceConfig};
use store::StoreConfig;
use telemetry::traces::TracesConfig;
use url::Url;

const MAX_WRITE_WAIT_MS: u64 = 30_000;

/// Maximum time that a client may ask a write to wait.
pub(crate) const MAX_WRITE_WAIT: Duration = Duration::from_millis(MAX_WRITE_WAIT_MS);

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
    /// Address on which the API is served
    #[arg(
        long = "bind",
        env = "GATEWAY_BIND",
        value_name = "GATEWAY_BIND",
        default_value = "0.0.0.0:8000"
    )]
    pub bind: SocketAddr,
    /// Milliseconds for which a write waits to be stored before the response is 202
    #[arg(
        long,
        env = "WRITE_WAIT_MS",
        default_value = "5000",
        value_parser = value_parser!(u64).range(..=MAX_WRITE_WAIT_MS).map(Duration::from_millis)
    )]
    pub write_wait_ms: Duration,
    /// Connections that publish commands, each with one publish in flight; more connections make
    /// smaller batches
    #[arg(
        long,
        env = "PUBLISH_CONNECTIONS",
        default_value_t = 1,
        value_parser = value_parser!(u16).range(1..=64)
    )]
    pub publish_connections: u16,
    /// Maximum number of writes that wait; beyond it the response is 503
    #[arg(
        long,
        env = "MAX_WAITING_WRITES",
        default_value_t = 4096,
        value_parser = value_parser!(u32).range(1..=1_000_000)
    )]
    pub max_waiting_writes: u32,
    /// URL of the broadcaster, to which WebSockets at /api/chat are passed through
    #[arg(
        long,
        env = "BROADCASTER_URL",
        default_value = "http://localhost:8001",
        // A URL with a password is refused, and must not be printed either.
        hide_env_values = true,
        value_parser = broadcaster_url
    )]
    pub broadcaster_url: Url,
    /// Origins whose pages may call this API, such as `https://app.example`, separated by commas;
    /// * for all. Unset: none
    #[arg(long, env = "CORS_ORIGINS", value_delimiter = ',', value_parser = cors_origin)]
    pub cors_origins: Vec<HeaderValue>,
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
}

/// Parses an entry of `CORS_ORIGINS`: an origin as browsers send it, or `*`.
fn cors_origin(text: &str) -> anyhow::Result<HeaderValue> {
    if text.trim() == "*" {
        return Ok(HeaderValue::from_static("*"));
    }
    Ok(HeaderValue::try_from(text.parse::<Origin>()?.as_str())?)
}

fn broadcaster_url(text: &str) -> Result<Url, &'static str> {
    let public = |url: &Url| {
        url.scheme() == "http"
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
    };
    let url = Url::parse(text).ok().filter(public);
    url.ok_or("must be an http URL without a password, such as http://broadcaster:8001")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_value_is_refused_with_the_name_of_its_variable() {
        for (flag, value, name) in [
            ("--write-wait-ms", "30001", "WRITE_WAIT_MS"),
            ("--publish-connections", "0", "PUBLISH_CONNECTIONS"),
            ("--broadcaster-url", "ws://broadcaster", "BROADCASTER_URL"),
            ("--broadcaster-url", "http://user:hunter2@broadcaster", "BROADCASTER_URL"),
            ("--cors-origins", "https://a.example,b.example", "CORS_ORIGINS"),
        ] {
            let error = Config::try_parse_from(["gateway", flag, value]).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
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
