//! The HTTP listener of all services. It bounds the number of connections and the time of every phase of one, and it
//! ends gracefully within a deadline; `axum::serve` does none of that.
//!
//! `settings` has all limits, `connection_limit` decides who is evicted when the listener is full, and
//! `served_connection` takes one connection from its first byte to its end.

mod accept;
mod base_url;
pub mod body;
pub mod client_address;
mod connection_limit;
mod connection_state;
mod connection_stream;
pub mod event_stream;
pub mod fields;
pub mod lists;
mod malformed_json;
pub mod methods;
pub(crate) mod paths;
pub mod preconditions;
pub mod prefer;
pub mod problem;
pub mod problem_page;
mod responses;
pub(crate) mod rules;
mod served_connection;
pub mod settings;
mod take_over;
#[cfg(test)]
mod tests;

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use ::http::{Request, Response};
use anyhow::Context;
use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use telemetry::OutageLog;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::sleep,
};
use tokio_util::task::TaskTracker;

use crate::Phases;
pub use base_url::BaseUrl;
pub use body::{Body, BoxError, RequestBody};
pub use client_address::TrustedProxies;
use connection_limit::ConnectionLimit;
use connection_state::ConnectionState;
use connection_stream::ConnectionStream;
pub use lists::has_token;
pub use preconditions::ReadPreconditions;
pub use rules::early_response;
pub use served_connection::{ConnectionShare, Peer};
pub use settings::{ListenerSettings, WriteTimeout};
pub use take_over::TakeOver;

/// Pause before accepting again, as after the process ran out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound port and the limits of what is served there.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    settings: ListenerSettings,
}

impl Listener {
    /// Binds `address` and logs it.
    pub fn bind(address: SocketAddr, settings: ListenerSettings) -> anyhow::Result<Self> {
        let listener = Self::bind_silently(address, settings)?;
        tracing::info!(address = %listener.local_addr()?, "listening");
        Ok(listener)
    }

    /// Binds `address`, for a listener that is not the service's own.
    pub(crate) fn bind_silently(
        address: SocketAddr,
        settings: ListenerSettings,
    ) -> anyhow::Result<Self> {
        let tcp =
            listen(address, &settings).with_context(|| format!("cannot listen on {address}"))?;
        Ok(Self { tcp, settings })
    }

    /// Returns the bound address.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Serves until `closing`. Then open requests may end until `hard_deadline`.
    pub async fn serve<S, B>(self, service: S, phases: &Phases)
    where
        S: tower::Service<Request<RequestBody>, Response = Response<B>, Error = Infallible>,
        S: Clone + Send + 'static,
        S: Unpin,
        S::Future: Send,
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let settings = Arc::new(self.settings.clone());
        let limit = ConnectionLimit::new(settings.max_connections, settings.first_request_grace);
        let connections = TaskTracker::new();
        let outage = OutageLog::new("accept connections");
        let accepting = async {
            loop {
                let (stream, peer) = self.accept(&outage).await;
                let state = Arc::new(ConnectionState::new(settings.write_timeout));
                let permit = limit.acquire(Arc::clone(&state)).await;
                let (service, settings, phases) =
                    (service.clone(), Arc::clone(&settings), phases.clone());
                connections.spawn(async move {
                    served_connection::serve(stream, peer, service, state, &settings, &phases)
                        .await;
                    drop(permit);
                });
            }
        };
        phases.closing.run_until_cancelled(accepting).await;
        drop(self.tcp);
        connections.close();
        if phases.hard_deadline.run_until_cancelled(connections.wait()).await.is_none() {
            let connections = connections.len();
            tracing::warn!(connections, "grace period over; abandoning open HTTP connections");
        }
    }

    async fn accept(&self, outage: &OutageLog) -> (TcpStream, SocketAddr) {
        loop {
            match self.tcp.accept().await {
                // Without `TCP_NODELAY`, small writes wait for the acknowledgement of those before.
                Ok((stream, peer)) => {
                    outage.succeeded();
                    match stream.set_nodelay(true) {
                        Ok(()) => return (stream, peer),
                        Err(error) => tracing::debug!(%error, "client left before it was served"),
                    }
                }
                Err(error) => {
                    outage.failed(&error);
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Takes the bare socket out of an upgraded connection of a listener without HTTP/2, with the bytes that were read beyond
/// the request. No buffer of HTTP remains.
pub fn into_tcp_stream(upgraded: Upgraded) -> Option<(TcpStream, Vec<u8>)> {
    let parts = upgraded.downcast::<TokioIo<ConnectionStream<TcpStream>>>().ok()?;
    // A copy, even of nothing: hyper's buffer of several KiB would live as long as a slice of it.
    Some((parts.io.into_inner().into_inner(), parts.read_buf.to_vec()))
}

fn listen(address: SocketAddr, settings: &ListenerSettings) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    if let Some(bytes) = settings.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    #[cfg(target_os = "linux")]
    if let Some(bytes) = settings.max_unsent_bytes {
        SockRef::from(&socket).set_tcp_notsent_lowat(bytes)?;
    }
    socket.bind(address)?;
    socket.listen(settings.backlog)
}
