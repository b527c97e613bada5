//! The HTTP listener that all services share: bounded in connections, with a header timeout and a
//! graceful end that has a deadline (`axum::serve` has neither of the two).

mod lingering;

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
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
use measures::Requests;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_io_timeout::TimeoutStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceBuilder;

use crate::{Health, Phases};
use lingering::Lingering;

/// How long a new connection may take until its first request's headers are there.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may send nothing, between requests or in the middle of one, and how long the
/// headers of its later requests may take: hyper counts them from the end of the request before.
/// Longer than any request is worked on, since the connection is read meanwhile, and longer than
/// balancers keep idle connections (60 s is common): who closes first must be the balancer.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// How long a client may take nothing of an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Requests at once on an HTTP/2 connection.
const MAX_STREAMS: u32 = 200;

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
/// At `max_connections` further clients wait in the kernel's backlog.
pub async fn serve<S, B>(listener: TcpListener, service: S, max_connections: usize, phases: &Phases)
where
    S: tower::Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let connections = TaskTracker::new();
    let free = Arc::new(Semaphore::new(max_connections));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &free) => accepted,
            () = phases.closing.cancelled() => break,
        };
        let (stream, peer, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let service = service.clone();
        let phases = phases.clone();
        connections.spawn(async move {
            serve_connection(stream, peer, service, &phases).await;
            drop(permit);
        });
    }
    drop(listener);
    connections.close();
    tokio::select! {
        () = connections.wait() => {}
        () = phases.expired.cancelled() => {
            tracing::warn!(connections = connections.len(), "abandoned at the end of the grace");
        }
    }
}

/// Serves `/livez`, `/readyz` and `/metrics` alone, until the grace is over.
pub async fn serve_health(listener: TcpListener, health: Health, phases: &Phases) {
    let requests = Requests::default();
    let service = tower::service_fn(move |request: Request<Incoming>| {
        let begun = Instant::now();
        let (method, path) = (request.method(), request.uri().path());
        let answer = health.answer(method, path).unwrap_or_else(not_found);
        requests.answered(method, Health::route(path), answer.status(), begun.elapsed());
        std::future::ready(Ok::<_, Infallible>(answer))
    });
    serve(listener, service, HEALTH_CONNECTIONS, phases).await;
}

async fn accept(
    listener: &TcpListener,
    free: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(free).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, peer, permit))
}

async fn serve_connection<S, B>(stream: TcpStream, peer: SocketAddr, service: S, phases: &Phases)
where
    S: tower::Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE_TIMEOUT);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(MAX_STREAMS);
    let mut stream = TimeoutStream::new(stream);
    stream.set_read_timeout(Some(IDLE_TIMEOUT));
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    let upgraded = Arc::new(AtomicBool::new(false));
    let io = TokioIo::new(Lingering::new(Box::pin(stream), Arc::clone(&upgraded)));
    let first_request = CancellationToken::new();
    let service = ServiceBuilder::new()
        .map_request({
            let first_request = first_request.clone();
            move |mut request: Request<Incoming>| {
                first_request.cancel();
                request.extensions_mut().insert(Peer(peer));
                request
            }
        })
        .map_response(move |response: Response<B>| {
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                upgraded.store(true, Ordering::Release);
            }
            response
        })
        .service(service);
    let connection = builder.serve_connection_with_upgrades(io, TowerToHyperService::new(service));
    tokio::pin!(connection);
    let no_request = tokio::time::sleep(FIRST_REQUEST_TIMEOUT);
    tokio::pin!(no_request);
    let mut closing = false;
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
            () = no_request.as_mut(), if !first_request.is_cancelled() => {
                // It may have come in this very moment.
                if !first_request.is_cancelled() {
                    return;
                }
            }
            () = phases.expired.cancelled() => return,
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
