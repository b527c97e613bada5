//! Connecting, and connecting again: a fresh connection with fresh channels each time.

use std::{future::Future, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use deadpool_lapin::{Pool, PoolConfig, PoolError, Runtime, Timeouts};
use lapin::{Channel, Connection, ConnectionProperties, options::ConfirmSelectOptions};
use tokio::time::timeout;

use crate::{BrokerUrl, topology};

/// How long connecting may take, the handshake included. RabbitMQ gives up on a handshake after
/// the same time, so a frozen broker never holds more than one attempt of each connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the broker may take to answer anything but a publish.
pub(crate) const RPC_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a task that waits for something else looks whether its connection is still there.
pub(crate) const CONNECTION_CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// Why the broker could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BrokerError {
    #[error("{0}")]
    Lapin(#[from] lapin::Error),
    #[error("cannot get a connection: {0}")]
    Pool(#[from] PoolError),
    #[error("the broker did not answer in time")]
    Silent,
    #[error("the consumer ended")]
    ConsumerEnded,
    #[error("the broker did not accept the message")]
    NotAccepted,
}

/// Opens connections that are known to the broker by `name`.
#[derive(Clone)]
pub(crate) struct Connector {
    url: BrokerUrl,
    name: String,
}

impl Connector {
    pub(crate) fn new(url: BrokerUrl, name: impl Into<String>) -> Self {
        Self { url, name: name.into() }
    }

    /// A connection for one task that consumes, or elects.
    pub(crate) async fn connect(&self) -> Result<Connection, BrokerError> {
        let properties = connection_properties(&self.name);
        let uri = self.url.expose();
        let connecting = Connection::connect(&uri, properties);
        in_time(CONNECT_TIMEOUT, connecting).await
    }

    /// A pool of `size` connections for tasks that publish.
    pub(crate) fn pool(&self, size: usize) -> Pool {
        let name = self.name.clone();
        let config = deadpool_lapin::Config {
            url: Some(self.url.expose()),
            pool: Some(PoolConfig {
                max_size: size,
                timeouts: Timeouts {
                    wait: Some(CONNECT_TIMEOUT),
                    create: Some(CONNECT_TIMEOUT),
                    recycle: Some(RPC_TIMEOUT),
                },
                ..PoolConfig::default()
            }),
        };
        #[expect(clippy::expect_used, reason = "fails only for a runtime that is not compiled in")]
        config
            .create_pool(move || connection_properties(&name), Runtime::Tokio1)
            .expect("tokio is compiled in")
    }
}

/// The channel of a task on this connection, with the topology declared.
pub(crate) async fn open_channel(connection: &Connection) -> Result<Channel, BrokerError> {
    in_time(RPC_TIMEOUT, async {
        let channel = connection.create_channel().await?;
        topology::declare(&channel).await?;
        Ok(channel)
    })
    .await
}

/// The same, with publisher confirms.
pub(crate) async fn open_confirming_channel(
    connection: &Connection,
) -> Result<Channel, BrokerError> {
    let channel = open_channel(connection).await?;
    in_time(RPC_TIMEOUT, channel.confirm_select(ConfirmSelectOptions::default())).await?;
    Ok(channel)
}

/// Ends a connection without waiting for it: a frozen broker would not answer.
pub(crate) fn close_in_background(connection: Connection) {
    tokio::spawn(async move {
        // It is given up either way.
        let _ = timeout(RPC_TIMEOUT, connection.close(200, "OK".into())).await;
    });
}

/// Ends when this connection or this channel is gone.
pub(crate) async fn lost(connection: &Connection, channel: &Channel) {
    let mut interval = tokio::time::interval(CONNECTION_CHECK_INTERVAL);
    while connection.status().connected() && channel.status().connected() {
        interval.tick().await;
    }
}

/// Waits between attempts to connect: from 100 ms to 2 s, with jitter, for ever.
pub(crate) fn backoff() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(2))
        .without_max_times()
        .with_jitter()
        .build()
}

/// Lets the broker take `limit` at most.
pub(crate) async fn in_time<T>(
    limit: Duration,
    work: impl Future<Output = lapin::Result<T>>,
) -> Result<T, BrokerError> {
    timeout(limit, work).await.map_err(|_| BrokerError::Silent)?.map_err(BrokerError::from)
}

fn connection_properties(name: &str) -> ConnectionProperties {
    ConnectionProperties::default().with_connection_name(name.into())
}
