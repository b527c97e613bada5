//! One connection from its first byte to its end.

use std::{
    convert::Infallible,
    fmt,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use ::http::{Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{
    body::{Body, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};
use tower::ServiceExt;

use super::{
    body::{BoxError, RequestBody},
    connection_state::ConnectionState,
    connection_stream::ConnectionStream,
    paths, responses,
    settings::{ListenerSettings, WriteTimeout},
    take_over::{Taken, TakenOver},
};
use crate::Phases;

/// Maximum number of requests at once on an HTTP/2 connection.
const MAX_STREAMS: u32 = 200;

/// Maximum number of unread bytes of one HTTP/2 request, and of all requests of a connection.
const WINDOW_BYTES: u32 = 64 * 1024;

/// Maximum number of bytes of one HTTP/2 response that wait to be sent.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// Time that an idle connection has for its last bytes when it is closed.
const LAST_BYTES_TIMEOUT: Duration = Duration::from_millis(50);

/// The address of the client, among a request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// The connection's share of [`ListenerSettings::max_connections`], among a request's extensions.
#[derive(Clone, Debug)]
pub struct ConnectionShare(Arc<ConnectionState>);

impl ConnectionShare {
    /// Gives the share up. Whoever does this limits such requests, and makes them the last of their connections.
    pub fn give_up(&self) {
        self.0.activity().permit = None;
    }
}

/// Serves requests until the client leaves, the connection is evicted or has been idle for too long, or the service
/// closes.
pub(super) async fn serve<S, B>(
    stream: TcpStream,
    peer: SocketAddr,
    service: S,
    state: Arc<ConnectionState>,
    settings: &ListenerSettings,
    phases: &Phases,
) where
    S: tower::Service<Request<RequestBody>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + Unpin + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (body_timeout, write_timeout) = (settings.body_timeout, settings.write_timeout);
    let io = TokioIo::new(ConnectionStream::new(stream, Arc::clone(&state)));
    let counting = Arc::clone(&state);
    let service = service_fn(move |request: Request<Incoming>| {
        let (service, state) = (service.clone(), Arc::clone(&counting));
        let in_progress = counting.begin_request();
        let version = request.version();
        let mut request = request.map(|body| RequestBody::new(body, version, body_timeout));
        request.extensions_mut().insert(Peer(peer));
        request.extensions_mut().insert(ConnectionShare(Arc::clone(&counting)));
        paths::normalize(request.uri_mut());
        async move {
            let Ok(mut response) = service.oneshot(request).await;
            responses::complete(&mut response, version);
            let route_timeout = response.extensions().get().map(|WriteTimeout(timeout)| *timeout);
            let mut activity = state.activity();
            activity.write_timeout = route_timeout.unwrap_or(write_timeout);
            activity.upgraded |= response.status() == StatusCode::SWITCHING_PROTOCOLS;
            if let Some(taken) = Taken::of(&mut response) {
                activity.taken = Some(taken);
                return Err(TakenOver);
            }
            // The closure holds the guard: the request is in progress until the response's body is dropped.
            Ok(response.map(|body| {
                body.map_err(move |error| {
                    let _guard = &in_progress;
                    error
                })
            }))
        }
    });
    if settings.http2 {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        // The connection's own timer covers the headers.
        builder.http1().header_read_timeout(None).max_buf_size(settings.max_header_bytes);
        builder
            .http2()
            .timer(TokioTimer::new())
            // Finds clients that vanished while a response waits for their flow control.
            .keep_alive_interval(settings.idle_timeout)
            .max_concurrent_streams(MAX_STREAMS)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            // A client with a large window that takes nothing would fill more.
            .max_send_buf_size(SEND_BUFFER_BYTES);
        let connection = pin!(builder.serve_connection_with_upgrades(io, service));
        let shut_down = auto::UpgradeableConnection::graceful_shutdown;
        ServedConnection::new(connection, shut_down, state, settings).run(phases).await;
    } else {
        let mut builder = http1::Builder::new();
        builder.header_read_timeout(None).max_buf_size(settings.max_header_bytes);
        let mut connection = builder.serve_connection(io, service).with_upgrades();
        let shut_down = http1::UpgradeableConnection::graceful_shutdown;
        let pinned = Pin::new(&mut connection);
        ServedConnection::new(pinned, shut_down, Arc::clone(&state), settings).run(phases).await;
        let taken = state.activity().taken.take();
        if let Some(taken) = taken
            && let Some(parts) = connection.into_parts()
        {
            let stream = parts.io.into_inner().into_inner();
            if let Err(error) = taken.complete(stream, write_timeout).await {
                tracing::debug!(%error, "client left before its response");
            }
        }
    }
}

/// A connection with its one timer.
struct ServedConnection<'a, C> {
    connection: Pin<&'a mut C>,
    graceful_shutdown: fn(Pin<&mut C>),
    state: Arc<ConnectionState>,
    settings: &'a ListenerSettings,
    stage: Stage,
    timer: Pin<Box<Sleep>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Requests are served.
    Open,
    /// The connection closes after the requests in progress.
    Closing,
    /// The same, but the connection was idle: it is cut off when the timer fires, unless a request came in time.
    ClosingIdle,
    /// The same, but when the timer fires the connection is cut off whatever is in progress.
    Evicted,
}

impl<'a, C, E> ServedConnection<'a, C>
where
    C: Future<Output = Result<(), E>>,
    E: fmt::Display,
{
    fn new(
        connection: Pin<&'a mut C>,
        graceful_shutdown: fn(Pin<&mut C>),
        state: Arc<ConnectionState>,
        settings: &'a ListenerSettings,
    ) -> Self {
        let timer = Box::pin(sleep(settings.first_request_timeout));
        Self { connection, graceful_shutdown, state, settings, stage: Stage::Open, timer }
    }

    async fn run(mut self, phases: &Phases) {
        loop {
            let is_open = self.stage == Stage::Open;
            tokio::select! {
                ended = self.connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "connection ended early");
                    }
                    return;
                }
                () = phases.closing.cancelled(), if is_open => self.close(Stage::Closing),
                () = self.state.eviction.notified(), if is_open => self.close(
                    if self.state.is_idle() { Stage::ClosingIdle } else { Stage::Evicted }
                ),
                () = self.timer.as_mut() => match self.stage {
                    Stage::Open | Stage::Closing => self.check_idle(),
                    Stage::ClosingIdle if !self.state.is_idle() => self.close(Stage::Evicted),
                    Stage::ClosingIdle | Stage::Evicted => return,
                },
                () = phases.hard_deadline.cancelled() => return,
            }
        }
    }

    /// Closes the connection if it has been idle for too long. Otherwise looks again when it may have been.
    fn check_idle(&mut self) {
        let now = Instant::now();
        match self.state.idle_deadline(self.settings) {
            Some(deadline) if deadline <= now => self.close(Stage::ClosingIdle),
            Some(deadline) => self.timer.as_mut().reset(deadline),
            None => self.timer.as_mut().reset(now + self.settings.idle_timeout),
        }
    }

    /// Takes no more requests.
    fn close(&mut self, stage: Stage) {
        self.stage = stage;
        let now = Instant::now();
        match stage {
            Stage::ClosingIdle => self.timer.as_mut().reset(now + LAST_BYTES_TIMEOUT),
            Stage::Evicted => self.timer.as_mut().reset(now + self.settings.eviction_timeout),
            Stage::Open | Stage::Closing => {}
        }
        (self.graceful_shutdown)(self.connection.as_mut());
    }
}
