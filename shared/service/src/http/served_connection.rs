//! One connection from its first byte to its end.

use std::{convert::Infallible, fmt, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use ::http::{Request, Response, StatusCode};
use bytes::Bytes;
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
    pin,
    time::{Instant, Sleep, sleep},
};
use tower::ServiceExt;

use super::{
    BoxError, Peer,
    body::{RequestBody, ResponseBody},
    connection_state::ConnectionState,
    connection_stream::ConnectionStream,
    settings::{ListenerSettings, Protocols, WriteTimeout},
};
use crate::Phases;

/// Maximum number of requests at once on an HTTP/2 connection.
const MAX_STREAMS: u32 = 200;

/// Maximum number of unread bytes of one HTTP/2 request, and of all requests of a connection.
const WINDOW_BYTES: u32 = 64 * 1024;

/// Time that an idle connection has for its last bytes when it is closed.
const LAST_BYTES_TIMEOUT: Duration = Duration::from_millis(50);

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
    S: Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let (body_timeout, write_timeout) = (settings.body_timeout, settings.write_timeout);
    let io = TokioIo::new(ConnectionStream::new(stream, Arc::clone(&state)));
    let counting = Arc::clone(&state);
    let service = service_fn(move |request: Request<Incoming>| {
        let (service, state, guard) =
            (service.clone(), Arc::clone(&counting), counting.begin_request());
        let mut request = request.map(|body| RequestBody::new(body, body_timeout));
        request.extensions_mut().insert(Peer(peer));
        async move {
            let response = service.oneshot(request).await?;
            let of_route = response.extensions().get::<WriteTimeout>();
            state.set_write_timeout(of_route.map_or(write_timeout, |of_route| of_route.0));
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                state.set_upgraded();
            }
            Ok::<_, Infallible>(response.map(|body| ResponseBody::new(body, guard)))
        }
    });
    match settings.protocols {
        Protocols::Http1 => {
            let connection = http1::Builder::new()
                // The connection's own timer covers the headers.
                .header_read_timeout(None)
                .max_buf_size(settings.max_header_bytes)
                .serve_connection(io, service)
                .with_upgrades();
            pin!(connection);
            let shut_down = http1::UpgradeableConnection::graceful_shutdown;
            ServedConnection::new(connection, shut_down, state, settings).run(phases).await;
        }
        Protocols::Http1AndHttp2 => {
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder.http1().header_read_timeout(None).max_buf_size(settings.max_header_bytes);
            builder
                .http2()
                .timer(TokioTimer::new())
                .max_concurrent_streams(MAX_STREAMS)
                .initial_stream_window_size(WINDOW_BYTES)
                .initial_connection_window_size(WINDOW_BYTES);
            let connection = builder.serve_connection_with_upgrades(io, service);
            pin!(connection);
            let shut_down = auto::UpgradeableConnection::graceful_shutdown;
            ServedConnection::new(connection, shut_down, state, settings).run(phases).await;
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
    /// The connection was idle, and is cut off when the timer fires.
    ClosingNow,
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
                () = self.state.evicted(), if is_open => self.evict(),
                () = self.timer.as_mut() => {
                    if self.stage == Stage::ClosingNow && self.state.is_idle() {
                        return;
                    }
                    self.check_idle();
                }
                () = phases.hard_deadline.cancelled() => return,
            }
        }
    }

    fn evict(&mut self) {
        self.close(if self.state.is_idle() { Stage::ClosingNow } else { Stage::Closing });
    }

    /// Closes the connection if it has been idle for too long. Otherwise looks again when it may have been.
    fn check_idle(&mut self) {
        let now = Instant::now();
        match self.state.idle_deadline(self.settings) {
            Some(deadline) if deadline <= now => self.close(Stage::ClosingNow),
            Some(deadline) => self.timer.as_mut().reset(deadline),
            None => self.timer.as_mut().reset(now + self.settings.idle_timeout),
        }
    }

    /// Takes no more requests.
    fn close(&mut self, stage: Stage) {
        self.stage = stage;
        if stage == Stage::ClosingNow {
            self.timer.as_mut().reset(Instant::now() + LAST_BYTES_TIMEOUT);
        }
        (self.graceful_shutdown)(self.connection.as_mut());
    }
}
