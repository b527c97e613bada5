//! Connections. After a fault a task opens a fresh channel, and a fresh connection unless the old
//! one still works. Dropping a connection closes it without waiting for a frozen broker.

use std::{
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use deadpool_lapin::{Connection as PooledConnection, Manager, Pool, PoolConfig, Runtime};
use lapin::{Connection, ConnectionProperties};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    error::{BrokerError, is_end},
    transport::{Endpoint, Transport},
    url::BrokerUrl,
};

/// Maximum time of a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// Opens an AMQP 0-9-1 connection; a broker answers it with `connection.start`.
const PROTOCOL_HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";

/// Maximum time for closing a connection. A stop must not wait long for a broker that does not answer.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// First byte of `connection.start`: the type of its frame.
const METHOD_FRAME: u8 = 1;

/// Maximum time of any operation but a publish.
pub(crate) const RPC_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens connections that are known to the broker by `name`.
///
/// The client library keeps a thread and a socket for every abandoned handshake, until the broker
/// answers or closes it. A frozen broker does neither. So after a first such handshake, the broker is
/// probed with a socket of our own, which is closed, until it answers.
pub(crate) struct Connector {
    url: BrokerUrl,
    name: &'static str,
    unresponsive: AtomicBool,
}

/// Connections for tasks that publish. A task keeps its connection as long as its channel lives, and
/// gives it back if only the channel has failed.
pub(crate) struct ConnectionPool {
    connector: Connector,
    pool: Pool,
}

impl Connector {
    pub(crate) fn new(url: BrokerUrl, name: &'static str) -> Self {
        Self { url, name, unresponsive: AtomicBool::new(false) }
    }

    /// Opens a connection for one task that consumes or takes part in the election.
    pub(crate) async fn connect(&self) -> Result<Connection, BrokerError> {
        let uri = self.url.expose();
        let properties = connection_properties(self.name);
        let transport = Transport::current(Arc::clone(self.url.endpoint()));
        self.guard(Connection::connect_with_runtime(&uri, properties, transport)).await
    }

    /// Makes a pool of `size` connections for tasks that publish.
    pub(crate) fn pool(self, size: usize) -> ConnectionPool {
        let name = self.name;
        let transport = Transport::current(Arc::clone(self.url.endpoint()));
        let properties = move || connection_properties(name);
        let manager = Manager::new(self.url.expose(), properties, transport);
        let pool =
            Pool::builder(manager).config(PoolConfig::new(size)).runtime(Runtime::Tokio1).build();
        #[expect(clippy::expect_used, reason = "fails only for timeouts without a runtime")]
        let pool = pool.expect("a pool without timeouts");
        ConnectionPool { connector: self, pool }
    }

    /// Limits an attempt to connect, and remembers if the broker did not answer it.
    async fn guard<T, E>(
        &self,
        connecting: impl Future<Output = Result<T, E>>,
    ) -> Result<T, BrokerError>
    where
        BrokerError: From<E>,
    {
        if self.unresponsive.load(Ordering::Relaxed) {
            self.probe().await.map_err(|_| BrokerError::NoAnswer)?;
            self.unresponsive.store(false, Ordering::Relaxed);
        }
        let connected = in_time(self.url.connect_timeout(), connecting).await;
        if matches!(connected, Err(BrokerError::Timeout)) {
            self.unresponsive.store(true, Ordering::Relaxed);
        }
        match connected {
            Err(BrokerError::Timeout) => Err(BrokerError::NoAnswer),
            // The client library does not tell what it got instead of the broker's answer.
            Err(BrokerError::Client(error)) if error.is_broken_off() => match self.probe().await {
                Ok(None | Some(METHOD_FRAME)) if self.url.names_mechanism() => {
                    Err(BrokerError::Mechanism(error))
                }
                Ok(None | Some(METHOD_FRAME)) => Err(BrokerError::Client(error)),
                Err(probed) if probed.kind() == io::ErrorKind::TimedOut => {
                    Err(BrokerError::NoAnswer)
                }
                Err(probed) if !is_end(&probed) => Err(BrokerError::Client(error)),
                Ok(Some(_)) | Err(_) => Err(BrokerError::NotAmqp),
            },
            connected => connected,
        }
    }

    /// Returns the first byte that the broker answers with, or `None` over TLS. Fails if there is no
    /// answer.
    async fn probe(&self) -> io::Result<Option<u8>> {
        let Endpoint { host, port, tls: None } = &**self.url.endpoint() else { return Ok(None) };
        let probing = async {
            let mut stream = TcpStream::connect((host.as_str(), *port)).await?;
            stream.write_all(PROTOCOL_HEADER).await?;
            stream.read_u8().await.map(Some)
        };
        timeout(PROBE_TIMEOUT, probing).await?
    }
}

impl ConnectionPool {
    /// Takes a connection out of the pool, or opens one.
    pub(crate) async fn get(&self) -> Result<PooledConnection, BrokerError> {
        self.connector.guard(self.pool.get()).await
    }
}

/// Closes a connection. If that takes too long, the broker closes it when it misses heartbeats.
pub(crate) async fn close(connection: Connection) {
    if let Err(error) = in_time(CLOSE_TIMEOUT, connection.close(200, "OK".into())).await {
        tracing::debug!(%error, "the connection was not closed in time");
    }
}

/// Limits how long the broker may take.
pub(crate) async fn in_time<T, E>(
    limit: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, BrokerError>
where
    BrokerError: From<E>,
{
    Ok(timeout(limit, work).await.map_err(|_| BrokerError::Timeout)??)
}

fn connection_properties(name: &str) -> ConnectionProperties {
    ConnectionProperties::default().with_connection_name(name.into())
}
