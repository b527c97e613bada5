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
    DeadLetterPublisher(DeadLettersCommand),
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

#[cfg(test)]
mod documentation {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn lists_every_setting() {
        let document = include_str!("../../../docs/configuration.md");
        let command = Config::command();
        let variable = |argument: &clap::Arg| argument.get_env()?.to_str().map(str::to_owned);
        for argument in command.get_arguments() {
            let (Some(name), Some(flag)) = (variable(argument), argument.get_long()) else {
                continue;
            };
            let default = match argument.get_default_values() {
                [value] if !value.is_empty() => format!("`{}`", value.display()),
                _ => "none".to_owned(),
            };
            let row = format!("| `{name}` | {default} | ");
            assert!(document.contains(&row), "docs/configuration.md lacks {row}");
            let usual = name.to_lowercase().replace('_', "-") == flag;
            assert!(usual || document.contains(&format!("`--{flag}`")), "--{flag} is not listed");
        }
        let mut sections = document.split("\n## ");
        let section = sections.find(|section| section.starts_with("Storage worker\n")).unwrap();
        for row in section.lines().filter_map(|line| line.strip_prefix("| `")) {
            let name = row.split('`').next().map(str::to_owned);
            let known = command.get_arguments().any(|argument| variable(argument) == name);
            assert!(known, "docs/configuration.md lists an unknown setting: {row}");
        }
    }
}
