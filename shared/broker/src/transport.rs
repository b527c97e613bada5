//! The sockets of the connections to the broker.
//!
//! The AMQP client and its pool know neither IPv6 hosts nor client certificates. Both are generic over
//! the runtime that opens their sockets, so this runtime opens them, with TLS if the URI says so, and
//! the client speaks plain AMQP over what it gets.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd},
    sync::Arc,
    time::{Duration, Instant},
};

use async_rs::{
    Runtime, Tokio, TokioRuntime,
    traits::{Executor, Reactor, RuntimeKit},
    util::Task,
};
use futures_util::{AsyncRead, AsyncWrite, Stream};
use lapin::tcp::AsyncTcpStream;

use crate::tls::{Tls, TlsError};

/// Where the broker listens.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Present for `amqps`.
    pub(crate) tls: Option<Tls>,
}

/// The tokio runtime, but its sockets are connected to one endpoint, whatever address is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Transport {
    tokio: TokioRuntime,
    endpoint: Arc<Endpoint>,
}

/// Failure to connect.
#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error("cannot connect to {host}:{port}")]
    Connect { host: String, port: u16, source: io::Error },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the TLS handshake with {host}:{port} failed{hint}")]
    Handshake { host: String, port: u16, hint: &'static str, source: io::Error },
}

impl Transport {
    /// Returns the sockets of the current tokio runtime. Panics outside of one.
    pub(crate) fn current(endpoint: Arc<Endpoint>) -> Runtime<Self> {
        Runtime::new(Self { tokio: TokioRuntime::tokio_current(), endpoint })
    }
}

impl Endpoint {
    async fn connect(
        &self,
        tokio: &TokioRuntime,
    ) -> Result<<Transport as Reactor>::TcpStream, ConnectError> {
        let (host, port) = (self.host.clone(), self.port);
        let addresses = tokio.to_socket_addrs((host.clone(), port));
        let connecting = AsyncTcpStream::connect(tokio, addresses).await;
        let stream = connecting.map_err(|source| ConnectError::Connect {
            host: host.clone(),
            port,
            source,
        })?;
        let Some(tls) = &self.tls else { return Ok(stream) };
        let connector = tls.connector()?;
        stream.into_rustls(&connector, &tls.server_name).await.map_err(|source| {
            let hint = hint(&source);
            ConnectError::Handshake { host, port, hint, source }
        })
    }
}

/// Returns what an operator should check after a failed handshake.
fn hint(error: &io::Error) -> &'static str {
    use tokio_rustls::rustls::Error;
    match error.get_ref().and_then(|error| error.downcast_ref::<Error>()) {
        Some(Error::InvalidMessage(_)) => {
            "; what answers does not speak TLS: is it the port of amqp:// in RABBITMQ_URL?"
        }
        Some(Error::InvalidCertificate(_)) => {
            "; the broker's certificate is not trusted: see SSL_CERT_FILE, and cacertfile in RABBITMQ_URL"
        }
        Some(Error::AlertReceived(_)) => "; the broker refused it: see certfile in RABBITMQ_URL",
        _ => "",
    }
}

impl RuntimeKit for Transport {}

impl Executor for Transport {
    type Task<T: Send + 'static> = <Tokio as Executor>::Task<T>;

    fn block_on<T, F: Future<Output = T>>(&self, future: F) -> T {
        self.tokio.block_on(future)
    }

    fn spawn<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        future: F,
    ) -> Task<Self::Task<T>> {
        self.tokio.spawn(future)
    }

    fn spawn_blocking<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(
        &self,
        work: F,
    ) -> Task<Self::Task<T>> {
        self.tokio.spawn_blocking(work)
    }
}

impl Reactor for Transport {
    type TcpStream = AsyncTcpStream<<Tokio as Reactor>::TcpStream>;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        self.tokio.register(socket)
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.tokio.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.tokio.interval(duration)
    }

    fn tcp_connect_addr(
        &self,
        _: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        let Self { tokio, endpoint } = self.clone();
        async move { endpoint.connect(&tokio).await.map_err(io::Error::other) }
    }
}
