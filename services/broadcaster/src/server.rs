//! The one port: health answers and WebSocket handshakes over HTTP/1.1, and the sessions that come
//! of them.
//!
//! hyper reads the request and writes the answer. Then it is out of the way: the session has the
//! bare TCP socket and small buffers of its own, so an idle subscriber costs a few KiB.

pub(crate) mod asyncapi;
mod close;
mod handshake;
mod session;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque, convert::Infallible, future::ready, net::SocketAddr, pin::pin,
    sync::Arc, time::Duration,
};

use anyhow::Context;
use http::{HeaderValue, Request, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use service::{Health, Phases};
use socket2::SockRef;
use telemetry::metrics::{CounterFamily, Requests};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::task::TaskTracker;

use crate::{
    hub::{Hub, Subscription},
    origins::AllowedOrigins,
    per_ip_limit::{AddressLimit, IpPermit, LimitReached},
};
use handshake::{Answer, Refusal};
pub use session::Timing;

/// Room for handshakes unless [`Settings::max_handshakes`] says something else.
pub(crate) const MAX_HANDSHAKES: usize = 512;

/// Connections that wait in the kernel to be accepted, as after a broadcaster that had thousands of
/// subscribers.
const BACKLOG: u32 = 4096;

/// What the kernel buffers for each subscriber (twice this, its own overhead included). Left to
/// itself it would grow the buffer to megabytes, and a subscriber that reads slowly would read
/// minutes of old frames.
const SEND_BUFFER_BYTES: u32 = 32 * 1024;

/// Room for the request's headers; the least that hyper takes is half of this.
const HEADER_BYTES: usize = 16 * 1024;

/// How long to wait before accepting again when the process is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How the server behaves. The default is what the service runs with; tests shorten the times.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Subscribers at most.
    pub max_connections: usize,
    /// Whose pages may subscribe.
    pub origins: AllowedOrigins,
    /// How many of them may come from one address.
    pub addresses: AddressLimit,
    /// Connections at most that are not, or not yet, a subscriber's. Each lives for `handshake` at
    /// most, so health questions are answered whatever the number of subscribers.
    pub max_handshakes: usize,
    /// How long one has at least when others wait for its place. Most take a millisecond; who only
    /// connects, and says nothing, must not keep health questions out.
    pub patience: Duration,
    /// From the TCP connection to the answer's last byte.
    pub handshake: Duration,
    /// How long the sessions take to end when the server does.
    pub close_spread: Duration,
    /// Sessions that then end in a second, so that the other replicas are not all asked at once.
    pub closes_per_second: u32,
    /// The times of each session.
    pub timing: Timing,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_connections: 19_000,
            origins: AllowedOrigins::default(),
            addresses: AddressLimit::default(),
            max_handshakes: MAX_HANDSHAKES,
            patience: Duration::from_secs(1),
            handshake: Duration::from_secs(10),
            close_spread: Duration::from_secs(10),
            closes_per_second: 1_000,
            timing: Timing::default(),
        }
    }
}

struct Server {
    hub: Arc<Hub>,
    health: Health,
    settings: Settings,
    phases: Phases,
    seats: Arc<Semaphore>,
    sessions: TaskTracker,
    requests: Requests,
    ends: CounterFamily,
}

/// What one subscriber takes of what there is a limit of.
type Permit = (OwnedSemaphorePermit, Option<IpPermit>);

/// Binds `address`, with what the accepted sockets inherit, and says so in the log.
pub fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
        // The buffer would hold a minute of ordinary frames. So there is room for the next one only
        // once all before it is on the network.
        #[cfg(target_os = "linux")]
        SockRef::from(&socket).set_tcp_notsent_lowat(1)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    let listener = listen().with_context(|| format!("cannot listen on {address}"))?;
    tracing::info!(address = %listener.local_addr()?, "listening");
    Ok(listener)
}

/// Serves until `closing`, then ends the sessions one after the other, until `expired` at most.
pub async fn serve(
    listener: TcpListener,
    hub: Arc<Hub>,
    health: Health,
    settings: Settings,
    phases: &Phases,
) {
    let server = Arc::new(Server {
        hub,
        health,
        seats: Arc::new(Semaphore::new(settings.max_connections)),
        settings,
        phases: phases.clone(),
        sessions: TaskTracker::new(),
        requests: Requests::default(),
        ends: session::count_ends(),
    });
    let connections = TaskTracker::new();
    let accepting = accept_all(&listener, &server, &connections);
    phases.closing.run_until_cancelled(accepting).await;
    drop(listener);
    tracing::info!(subscribers = server.sessions.len(), "closing");
    connections.close();
    server.sessions.close();
    let ending = async {
        // In this order: what is still in its handshake may become a session.
        connections.wait().await;
        server.sessions.wait().await;
    };
    if phases.hard_deadline.run_until_cancelled(ending).await.is_none() {
        tracing::warn!(subscribers = server.sessions.len(), "abandoned at the end of the grace");
    }
}

async fn accept_all(listener: &TcpListener, server: &Arc<Server>, connections: &TaskTracker) {
    let mut conversations = PendingHandshakes::new(&server.settings);
    // Never closed, so it never fails.
    while let Ok(permit) = conversations.room().await {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let server = Arc::clone(server);
                let conversation = connections.spawn(async move {
                    server.serve_connection(stream, peer).await;
                    drop(permit);
                });
                conversations.under_way.push_back((Instant::now(), conversation.abort_handle()));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The connections that are not, or not yet, a subscriber's, the oldest first.
struct PendingHandshakes {
    most: usize,
    patience: Duration,
    free: Arc<Semaphore>,
    under_way: VecDeque<(Instant, AbortHandle)>,
}

impl PendingHandshakes {
    fn new(settings: &Settings) -> Self {
        let (most, patience) = (settings.max_handshakes, settings.patience);
        Self { most, patience, free: Arc::new(Semaphore::new(most)), under_way: VecDeque::new() }
    }

    /// Room for one more, if need be that of the oldest.
    async fn room(&mut self) -> Result<OwnedSemaphorePermit, AcquireError> {
        let mut permit = pin!(Arc::clone(&self.free).acquire_owned());
        if self.under_way.len() >= self.most {
            self.under_way.retain(|(_, conversation)| !conversation.is_finished());
        }
        let Some((begun, oldest)) = self.under_way.front() else { return permit.await };
        tokio::select! {
            biased;
            permit = permit.as_mut() => permit,
            () = sleep_until(*begun + self.patience) => {
                oldest.abort();
                self.under_way.pop_front();
                // Its place is free once the runtime has dropped it. If it has ended by itself
                // meanwhile, it is free already.
                permit.await
            }
        }
    }
}

impl Server {
    /// One request and its answer. If that is a 101, a session goes on with the socket.
    async fn serve_connection(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        // Without it a frame may wait for the acknowledgement of the one before.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "gone before its request");
            return;
        }
        let service = service_fn(|request| ready(Ok::<_, Infallible>(self.observe(peer, request))));
        let connection = http1::Builder::new()
            .max_buf_size(HEADER_BYTES)
            // One limit for the whole conversation covers the headers, too.
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = pin!(connection);
        let conversation = async {
            tokio::select! {
                ended = connection.as_mut() => return ended,
                () = self.phases.closing.cancelled() => connection.as_mut().graceful_shutdown(),
            }
            connection.await
        };
        match timeout(self.settings.handshake, conversation).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "connection ended early"),
            Err(_) => tracing::debug!("no request in time"),
        }
    }

    fn observe(self: &Arc<Self>, peer: SocketAddr, request: Request<Incoming>) -> Answer {
        let begun = Instant::now();
        let method = request.method().clone();
        let path = request.uri().path();
        let route = Health::route(path).or_else(|| handshake::route(path));
        let answer = self.answer(peer, request);
        self.requests.answered(&method, route, answer.status(), begun.elapsed());
        answer
    }

    fn answer(self: &Arc<Self>, peer: SocketAddr, mut request: Request<Incoming>) -> Answer {
        let (method, path) = (request.method(), request.uri().path());
        let health = self.health.answer(method, path);
        let mut answer = match health.or_else(|| handshake::describe(method, path)) {
            Some(answer) => answer,
            None => match self.admit(peer, &mut request) {
                Ok(switching_protocols) => return switching_protocols,
                Err(refusal) => refusal.into_answer(),
            },
        };
        // A connection is for one answer: it soon makes room for the next.
        answer.headers_mut().append(header::CONNECTION, HeaderValue::from_static("close"));
        answer
    }

    fn admit(
        self: &Arc<Self>,
        peer: SocketAddr,
        request: &mut Request<Incoming>,
    ) -> Result<Answer, Refusal> {
        let accept_key = handshake::check(request, &self.settings.origins)?;
        if self.phases.closing.is_cancelled() {
            return Err(Refusal::Stopping);
        }
        let place = self.settings.addresses.take(peer, request.headers());
        let place = place.map_err(|LimitReached| Refusal::AddressFull)?;
        let permit = Arc::clone(&self.seats).try_acquire_owned().map_err(|_| Refusal::Full)?;
        // Whatever is drawn from here on is for this subscriber.
        let subscription = self.hub.subscribe();
        let upgrade = hyper::upgrade::on(request);
        self.sessions.spawn(Arc::clone(self).host(upgrade, subscription, (permit, place)));
        Ok(handshake::switching_protocols(accept_key))
    }

    /// Holds the permit until the session has ended or must.
    async fn host(self: Arc<Self>, upgrade: OnUpgrade, subscription: Subscription, permit: Permit) {
        tokio::select! {
            () = self.session(upgrade, subscription) => {}
            () = self.phases.hard_deadline.cancelled() => {}
        }
        drop(permit);
    }

    async fn session(&self, upgrade: OnUpgrade, subscription: Subscription) {
        let Ok(upgraded) = upgrade.await else {
            // It left before it had the 101.
            return;
        };
        let (stream, read_ahead) = {
            let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else {
                tracing::error!("an upgraded connection is not on TCP");
                return;
            };
            // A copy, even of nothing: hyper's buffer of several KiB would live as long as it.
            (parts.io.into_inner(), parts.read_buf.to_vec())
        };
        let closing = self.time_to_close();
        let (timing, ends) = (self.settings.timing, &self.ends);
        session::run(stream, read_ahead, subscription, timing, ends, closing).await;
    }

    /// Ends when this session's turn has come to close: a random moment of a time that is the
    /// longer, the more sessions there are.
    async fn time_to_close(&self) {
        self.phases.closing.cancelled().await;
        let sessions = u32::try_from(self.sessions.len()).unwrap_or(u32::MAX);
        let needed = Duration::from_secs(1) * sessions / self.settings.closes_per_second.max(1);
        let spread = needed.min(self.settings.close_spread);
        sleep(spread.mul_f64(rand::random())).await;
    }
}
