//! The storage worker's configuration.

use std::net::SocketAddr;

use broker::BrokerUrl;
use clap::{Parser, Subcommand};
use service::{CommonConfig, ConfigError, ServiceConfig};
use store::StoreSettings;
use telemetry::traces::TracesConfig;

use crate::dead_letters::DeadLettersCommand;

/// Takes commands from RabbitMQ, writes them to MongoDB and sends the outcomes back
#[derive(Parser, Clone, Debug)]
#[command(name = "storage-worker", version)]
pub struct Config {
    /// What all services share.
    #[command(flatten)]
    pub common: CommonConfig,
    /// Where spans are sent, and which.
    #[command(flatten)]
    pub traces: TracesConfig,
    /// Where /livez, /readyz and /metrics are served
    #[arg(
        long = "bind",
        env = "STORAGE_WORKER_BIND",
        value_name = "STORAGE_WORKER_BIND",
        default_value = "0.0.0.0:8002"
    )]
    pub bind: SocketAddr,
    /// Deliveries, of up to 256 commands each, that this worker holds at most
    #[arg(
        long,
        env = "PREFETCH",
        default_value_t = 16,
        value_parser = clap::value_parser!(u16).range(1..=1000)
    )]
    pub prefetch: u16,
    /// What to do instead of working
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What a storage worker can do instead of working.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Looks through the commands that could not be applied
    #[command(subcommand)]
    DeadLetters(DeadLettersCommand),
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
        Ok(())
    }
}
