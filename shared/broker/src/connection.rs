//! Connecting, and connecting again: a fresh connection with fresh channels each time.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBuilder};
use deadpool_lapin::{
    Connection as PooledConnection, Pool, PoolConfig, PoolError, Runtime, Timeouts,
};
use lapin::{Channel, Connection, ConnectionProperties, options::ConfirmSelectOptions};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    BrokerUrl,
    topology::{self, Declares},
};

/// How long connecting may take, the handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a broker that did not answer a handshake may take to answer a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// What opens an AMQP 0-9-1 connection; a broker answers it with `connection.start`.
const PROTOCOL_HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";

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
    Timeout,
    #[error("the consumer ended")]
    ConsumerEnded,
    #[error("the broker did not accept the message")]
    NotAccepted,
}

/// Opens connections that are known to the broker by `name`.
///
/// The client library keeps a thread and a socket for every handshake that was given up, until the
/// broker answers or closes it. A frozen one does neither. So after a first such attempt the
/// broker is probed with a socket of our own, which is closed, until it answers.
#[derive(Clone)]
pub(crate) struct Connector {
    url: BrokerUrl,
    name: String,
    unresponsive: Arc<AtomicBool>,
}

/// Connections for tasks that publish.
#[derive(Clone)]
pub(crate) struct ConnectionPool {
    connector: Connector,
    pool: Pool,
}

impl Connector {
    pub(crate) fn new(url: BrokerUrl, name: impl Into<String>) -> Self {
        Self { url, name: name.into(), unresponsive: Arc::default() }
    }

    /// A connection for one task that consumes, or elects.
    pub(crate) async fn connect(&self) -> Result<Connection, BrokerError> {
        self.probe().await?;
        let properties = connection_properties(&self.name);
        let uri = self.url.expose();
        let connected = in_time(CONNECT_TIMEOUT, Connection::connect(&uri, properties)).await;
        if matches!(connected, Err(BrokerError::Timeout)) {
            self.unresponsive.store(true, Ordering::Relaxed);
        }
        connected
    }

    /// A pool of `size` connections for tasks that publish.
    pub(crate) fn pool(&self, size: usize) -> ConnectionPool {
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
        let pool = config
            .create_pool(move || connection_properties(&name), Runtime::Tokio1)
            .expect("tokio is compiled in");
        ConnectionPool { connector: self.clone(), pool }
    }
}

impl Connector {
    /// Makes sure that a broker which did not answer before answers now.
    async fn probe(&self) -> Result<(), BrokerError> {
        let Some((host, port)) = self.url.plain_address() else { return Ok(()) };
        if !self.unresponsive.load(Ordering::Relaxed) {
            return Ok(());
        }
        let probing = async {
            let mut stream = TcpStream::connect((host, port)).await?;
            stream.write_all(PROTOCOL_HEADER).await?;
            stream.read_u8().await
        };
        match timeout(PROBE_TIMEOUT, probing).await {
            Ok(Ok(_)) => {
                self.unresponsive.store(false, Ordering::Relaxed);
                Ok(())
            }
            Ok(Err(_)) | Err(_) => Err(BrokerError::Timeout),
        }
    }
}

impl ConnectionPool {
    /// A connection that nobody else uses.
    pub(crate) async fn get(&self) -> Result<PooledConnection, BrokerError> {
        self.connector.probe().await?;
        let connected = self.pool.get().await;
        if matches!(connected, Err(PoolError::Timeout(_))) {
            self.connector.unresponsive.store(true, Ordering::Relaxed);
        }
        Ok(connected?)
    }
}

/// The channel of a task on this connection, with what it works with declared.
pub(crate) async fn open_channel(
    connection: &Connection,
    shared: Declares,
) -> Result<Channel, BrokerError> {
    in_time(RPC_TIMEOUT, async {
        let channel = connection.create_channel().await?;
        topology::declare(&channel, shared).await?;
        Ok(channel)
    })
    .await
}

/// A channel for commands with publisher confirms.
pub(crate) async fn open_confirming_channel(
    connection: &Connection,
) -> Result<Channel, BrokerError> {
    let channel = open_channel(connection, Declares::Commands).await?;
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
    timeout(limit, work).await.map_err(|_| BrokerError::Timeout)?.map_err(BrokerError::from)
}

fn connection_properties(name: &str) -> ConnectionProperties {
    ConnectionProperties::default().with_connection_name(name.into())
}
