//! The HTTP listener that all services share: bounded in connections, with a header timeout and a
//! graceful end that has a deadline (`axum::serve` has neither of the two).

mod connection_limit;
mod lingering_close;
#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ::http::{Request, Response, StatusCode, header};
use anyhow::Context;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use telemetry::{logging::AccessLog, metrics::Requests};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::OwnedSemaphorePermit,
};
use tokio_io_timeout::TimeoutStream;
use tokio_util::task::TaskTracker;
use tower::ServiceBuilder;

use crate::{Health, Phases};
use connection_limit::Room;
use lingering_close::Lingering;

/// How long a new connection may take until its first request's headers are there.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may send nothing, between requests or in the middle of one, and how long the
/// headers of its later requests may take: hyper counts them from the end of the request before.
/// Longer than any request is worked on, since the connection is read meanwhile, and longer than
/// balancers keep idle connections (60 s is common): who closes first must be the balancer.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// How long a client may take nothing of an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long an idle connection that makes room may take for what it still has to send.
const LAST_BYTES_TIMEOUT: Duration = Duration::from_millis(50);

/// Requests at once on an HTTP/2 connection.
const MAX_STREAMS: u32 = 200;

/// What an HTTP/2 client may send of one request, and of all of them, before it is read.
const WINDOW_BYTES: u32 = 64 * 1024;

/// The headers of an HTTP/1 request, which are kept until all are there.
const HEADER_BYTES: usize = 32 * 1024;

/// How long to wait before accepting again when the process is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections of a listener that answers nothing but health questions.
const HEALTH_CONNECTIONS: usize = 64;

/// Where a request comes from, among its extensions.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Binds `address` and says so in the log.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    tracing::info!(address = %listener.local_addr()?, "listening");
    Ok(listener)
}

/// Serves HTTP/1.1 and HTTP/2 until `closing`, then lets open requests end until `expired`.
/// At `max_connections` the one that has been without a request for the longest makes room for the next.
pub async fn serve<S, B>(listener: TcpListener, service: S, max_connections: usize, phases: &Phases)
where
    S: tower::Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let connections = TaskTracker::new();
    let room = Arc::new(Room::new(max_connections));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &room) => accepted,
            () = phases.closing.cancelled() => break,
        };
        let (stream, peer, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let service = service.clone();
        let (room, phases) = (Arc::clone(&room), phases.clone());
        connections.spawn(async move {
            serve_connection(stream, peer, service, &room, &phases).await;
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    tokio::select! {
        () = connections.wait() => {}
        () = phases.hard_deadline.cancelled() => {
            tracing::warn!(connections = connections.len(), "abandoned at the end of the grace");
        }
    }
}

/// Serves `/livez`, `/readyz` and `/metrics` alone, until the grace is over.
pub async fn serve_health(
    listener: TcpListener,
    health: Health,
    access_log: AccessLog,
    phases: &Phases,
) {
    let requests = Requests::default();
    let service = tower::service_fn(move |request: Request<Incoming>| {
        let begun = Instant::now();
        let (method, path) = (request.method(), request.uri().path());
        let answer = health.answer(method, path).unwrap_or_else(not_found);
        requests.answered(method, Health::route(path), answer.status(), begun.elapsed());
        let span = tracing::info_span!("request", %method, path);
        span.in_scope(|| access_log.log(answer.status(), begun.elapsed()));
        std::future::ready(Ok::<_, Infallible>(answer))
    });
    serve(listener, service, HEALTH_CONNECTIONS, phases).await;
}

async fn accept(
    listener: &TcpListener,
    room: &Room,
) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    let place = room.enter().await?;
    Ok((stream, peer, place))
}

async fn serve_connection<S, B>(
    stream: TcpStream,
    peer: SocketAddr,
    service: S,
    room: &Room,
    phases: &Phases,
) where
    S: tower::Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT)
        .max_buf_size(HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    let mut stream = TimeoutStream::new(stream);
    stream.set_read_timeout(Some(IDLE_TIMEOUT));
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    let upgraded = Arc::new(AtomicBool::new(false));
    let io = TokioIo::new(Lingering::new(Box::pin(stream), Arc::clone(&upgraded)));
    let (requests, answers) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let service = ServiceBuilder::new()
        .map_request({
            let requests = Arc::clone(&requests);
            move |mut request: Request<Incoming>| {
                requests.fetch_add(1, Ordering::Relaxed);
                request.extensions_mut().insert(Peer(peer));
                request
            }
        })
        .map_response({
            let answers = Arc::clone(&answers);
            move |response: Response<B>| {
                answers.fetch_add(1, Ordering::Relaxed);
                if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                    upgraded.store(true, Ordering::Release);
                }
                response
            }
        })
        .service(service);
    let connection = builder.serve_connection_with_upgrades(io, TowerToHyperService::new(service));
    tokio::pin!(connection);
    let no_request = tokio::time::sleep(FIRST_REQUEST_TIMEOUT);
    tokio::pin!(no_request);
    let (mut seen, wanted) = (0, room.wanted());
    tokio::pin!(wanted);
    // From now on, and not from when it is first looked at.
    wanted.as_mut().enable();
    let last_bytes = tokio::time::sleep(Duration::MAX);
    tokio::pin!(last_bytes);
    let (mut closing, mut leaving) = (false, false);
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(error, "connection ended early");
                }
                return;
            }
            () = phases.closing.cancelled(), if !closing => {
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
            () = wanted.as_mut(), if !closing => {
                let requests = requests.load(Ordering::Relaxed);
                if requests == seen {
                    closing = true;
                    connection.as_mut().graceful_shutdown();
                    // Nobody needs to linger for one that is asked for nothing.
                    if requests == answers.load(Ordering::Relaxed) {
                        leaving = true;
                        let until = tokio::time::Instant::now() + LAST_BYTES_TIMEOUT;
                        last_bytes.as_mut().reset(until);
                    }
                } else {
                    seen = requests;
                    wanted.set(room.wanted());
                    wanted.as_mut().enable();
                    room.pass();
                }
            }
            () = no_request.as_mut(), if requests.load(Ordering::Relaxed) == 0 => {
                // It may have come in this very moment.
                if requests.load(Ordering::Relaxed) == 0 {
                    return;
                }
            }
            () = &mut last_bytes, if leaving => return,
            () = phases.hard_deadline.cancelled() => return,
        }
    }
}

fn not_found() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(
        br#"{"type":"about:blank","title":"Not Found","status":404}"#,
    )));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/problem+json"));
    response
}
