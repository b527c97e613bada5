//! Settings of the connections to RabbitMQ.

use clap::Args;

use crate::BrokerUrl;

/// Settings of the connections to RabbitMQ.
#[derive(Args, Clone, Debug)]
pub struct BrokerConfig {
    /// The broker, as an AMQP URI; its query may have RabbitMQ's parameters
    #[arg(
        long = "rabbitmq-url",
        env = "RABBITMQ_URL",
        value_name = "RABBITMQ_URL",
        default_value = "amqp://guest:guest@localhost:5672/%2f",
        hide_env_values = true,
        value_parser = BrokerUrl::parse
    )]
    pub url: BrokerUrl,
}

impl BrokerConfig {
    /// Returns what has no effect, each with the name of its setting.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.url.warnings().to_vec()
    }
}
