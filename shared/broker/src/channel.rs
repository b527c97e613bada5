//! Channels: each belongs to one task, which opens it, publishes on it and watches it.

use std::time::Duration;

use lapin::{
    BasicProperties, Channel, Confirmation, Connection,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::FieldTable,
};
use uuid::Uuid;

use crate::{
    alarms::PROBE_KEY,
    connection::{RPC_TIMEOUT, in_time},
    error::BrokerError,
    headers::TRACEPARENT,
    topology::{self, Purpose},
    traceparents::TraceParents,
};

/// Interval at which a task that waits for something else checks its connection and its channel.
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// AMQP's delivery mode of messages that survive the broker's restart.
const PERSISTENT: u8 = 2;

/// Opens a channel and declares what is used on it.
pub(crate) async fn open_channel(
    connection: &Connection,
    purpose: Purpose,
) -> Result<Channel, BrokerError> {
    let opening = async {
        let channel = connection.create_channel().await?;
        topology::declare(&channel, purpose).await?;
        lapin::Result::Ok(channel)
    };
    let channel = in_time(RPC_TIMEOUT, opening).await?;
    if matches!(purpose, Purpose::PublishCommands) {
        in_time(RPC_TIMEOUT, channel.confirm_select(ConfirmSelectOptions::default())).await?;
    }
    Ok(channel)
}

/// Publishes to a queue through the exchange of the same name, and waits for the confirm. A message
/// without a queue is acked as well; only the return that comes with the ack tells.
pub(crate) async fn publish_confirmed(
    channel: &Channel,
    queue: &str,
    body: &[u8],
    properties: BasicProperties,
) -> lapin::Result<Confirmation> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    channel.basic_publish(queue.into(), queue.into(), options, body, properties).await?.await
}

/// Publishes JSON that may get lost.
pub(crate) async fn publish_unconfirmed(
    channel: &Channel,
    exchange: &str,
    routing_key: &str,
    body: &[u8],
) -> lapin::Result<()> {
    let options = BasicPublishOptions::default();
    let (exchange, routing_key) = (exchange.into(), routing_key.into());
    channel.basic_publish(exchange, routing_key, options, body, json_properties()).await.map(drop)
}

/// Publishes nothing to nobody, so that the broker tells of an alarm. On a channel with confirms, it
/// also shows that the broker answers.
pub(crate) async fn publish_probe(channel: &Channel, exchange: &str) -> lapin::Result<()> {
    let options = BasicPublishOptions::default();
    let (exchange, routing_key) = (exchange.into(), PROBE_KEY.into());
    let properties = BasicProperties::default();
    channel.basic_publish(exchange, routing_key, options, b"", properties).await?.await.map(drop)
}

/// Returns the properties of JSON that survives a broker's restart. The new message id names it to
/// an operator.
pub(crate) fn persistent_json(
    mut headers: FieldTable,
    traceparents: &TraceParents,
) -> BasicProperties {
    if let Some(value) = traceparents.header() {
        headers.insert(TRACEPARENT.into(), value);
    }
    let properties = json_properties()
        .with_delivery_mode(PERSISTENT)
        .with_message_id(Uuid::now_v7().to_string().into());
    if headers.inner().is_empty() { properties } else { properties.with_headers(headers) }
}

/// Returns once this connection or this channel has ended.
pub(crate) async fn lost(connection: &Connection, channel: &Channel) {
    let mut interval = tokio::time::interval(CHECK_INTERVAL);
    while connection.status().connected() && channel.status().connected() {
        interval.tick().await;
    }
}

fn json_properties() -> BasicProperties {
    BasicProperties::default().with_content_type("application/json".into())
}
