//! Settings of the connections to RabbitMQ.

use clap::Args;

use crate::BrokerUrl;

/// Settings of the connections to RabbitMQ.
#[derive(Args, Clone, Debug)]
pub struct BrokerConfig {
    /// The broker, as an AMQP URI
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
