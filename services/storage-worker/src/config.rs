//! Configuration of the storage worker.

use std::{net::SocketAddr, time::Duration};

use broker::BrokerConfig;
use clap::{ArgAction, Parser, Subcommand};
use service::{
    CommonConfig, ConfigError, ServiceConfig,
    config::{address, hours, number},
};
use store::StoreConfig;
use telemetry::traces::TracesConfig;

use crate::{dead_letters::DeadLettersCommand, events::EventsCommand, import::ImportCommand};

/// Consumes commands from RabbitMQ, applies them to MongoDB and publishes the outcomes
#[derive(Parser, Clone, Debug)]
#[command(name = "storage-worker", version)]
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
    /// Address on which /livez, /readyz and /metrics are served
    #[arg(
        long = "bind",
        env = "STORAGE_WORKER_BIND",
        value_name = "STORAGE_WORKER_BIND",
        default_value = "0.0.0.0:8002",
        value_parser = address
    )]
    pub bind: SocketAddr,
    /// Maximum number of unacknowledged deliveries, of up to 256 commands each
    #[arg(
        long,
        env = "PREFETCH",
        default_value_t = 16,
        value_parser = number(1_u16..=1000)
    )]
    pub prefetch: u16,
    /// Hours for which the log of changes is kept, so that clients of /api/events can resume
    #[arg(
        long = "events-retention-hours",
        env = "EVENTS_RETENTION_HOURS",
        value_name = "EVENTS_RETENTION_HOURS",
        default_value = "168",
        value_parser = hours(1..=8784, 168)
    )]
    pub events_retention: Duration,
    /// Whether commands without an actor are dead-lettered: those of gateways with AUTH=off. Set it to true where all
    /// gateways have AUTH=jwt
    #[arg(long, env = "REQUIRE_ACTOR", default_value_t = false, action = ArgAction::Set)]
    pub require_actor: bool,
    /// Task for an operator, run instead of serving
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Tasks for an operator.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Lists, shows, replays or purges dead letters
    #[command(subcommand)]
    DeadLetters(DeadLettersCommand),
    /// Manages the log of changes, from which /api/events is served
    #[command(subcommand)]
    Events(EventsCommand),
    /// Imports the messages of the FastAPI service, which stay where they are
    ///
    /// Repeat it as often as you like: what is imported already stays as it is. Exits with 0 if all
    /// documents are imported, with 1 if some are not, and with 78 if a setting is wrong.
    Import(Box<ImportCommand>),
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
        TracesConfig::check().map_err(|(key, expected)| ConfigError::new(key, expected))
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = self.broker.warnings();
        warnings.extend(self.store.warnings());
        warnings.extend(self.traces.warnings());
        if let Some(Command::Import(import)) = &self.command {
            warnings.extend(import.warnings());
        }
        warnings
    }
}

#[cfg(test)]
mod documentation {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn lists_every_setting() {
        testkit::check_settings_documented(&Config::command(), "Storage worker").unwrap();
    }
}
