//! `/api/chat`, which was here before the broadcaster had a port of its own. A WebSocket handshake
//! is passed on to the broadcaster and the two connections are joined, because browsers fail a
//! WebSocket on a redirect; anything else is redirected.

mod relay;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use contracts::{Problem, ProblemKind};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{body::Incoming, client::conn::http1, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use service::{
    Phases,
    http::{Peer, has_token},
};
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use url::{Host, Position, Url};

use crate::responses::ProblemResponse;

/// From the client's request to the broadcaster's whole answer: an outage is told within 2 s.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1800);

/// How long the client may take to receive the 101, and the broadcaster to switch.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest refusal that is passed on, in bytes.
const MAX_REFUSAL_BYTES: usize = 16 * 1024;

/// Room for the head of the broadcaster's answer, the least that hyper takes.
const HEAD_BYTES: usize = 8 * 1024;

/// Between the ends of two tunnels when the gateway stops, so that their clients do not all come
/// back in the same moment.
const CLOSE_STAGGER: Duration = Duration::from_millis(1);

/// What the broadcaster is told of a request, besides `Sec-WebSocket-*`. Cookies and credentials
/// are not its business.
const PASSED_ON: [HeaderName; 7] = [
    header::ORIGIN,
    header::USER_AGENT,
    header::FORWARDED,
    X_FORWARDED_FOR,
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-request-id"),
];

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The way to the broadcaster. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tunnel {
    target: Arc<Target>,
    free: Arc<Semaphore>,
    open: TaskTracker,
    phases: Phases,
}

struct Target {
    host: String,
    port: u16,
    /// Host and port as they stand in a URL.
    authority: String,
    path: String,
}

/// The broadcaster's answer, with the task that moves its connection.
struct Answer {
    response: hyper::Response<Incoming>,
    connection: AbortOnDropHandle<()>,
}

impl Tunnel {
    /// A way to `broadcaster_url` (`http`, with a host) for `max_tunnels` WebSockets at a time.
    pub(crate) fn new(broadcaster_url: &Url, max_tunnels: usize, phases: Phases) -> Self {
        Self {
            target: Arc::new(Target::new(broadcaster_url)),
            free: Arc::new(Semaphore::new(max_tunnels)),
            open: TaskTracker::new(),
            phases,
        }
    }

    /// Answers a request for `/api/chat`.
    pub(crate) async fn handle(&self, request: Request) -> Response {
        if !asks_for_websocket(&request) {
            let location = format!("http://{}{}", self.target.authority, self.target.uri(&request));
            return (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)])
                .into_response();
        }
        self.open(request).await.unwrap_or_else(|problem| ProblemResponse(problem).into_response())
    }

    /// Waits until all tunnels have ended. Once the service closes they do: each client gets a
    /// close frame, and who has not left by half the grace is cut off.
    pub(crate) async fn close(&self) {
        self.open.close();
        self.open.wait().await;
    }

    async fn open(&self, mut request: Request) -> Result<Response, Problem> {
        if self.phases.closing.is_cancelled() {
            return Err(overloaded("this gateway is shutting down; connect again"));
        }
        let seat = Arc::clone(&self.free)
            .try_acquire_owned()
            .map_err(|_| overloaded("too many WebSockets pass through this gateway"))?;
        let onward = self.target.onward(&request);
        let asking = async {
            let mut answer = self.target.ask(onward?).await?;
            if answer.response.status() == StatusCode::SWITCHING_PROTOCOLS {
                let client = hyper::upgrade::on(&mut request);
                let response = switching_protocols(answer.response.headers());
                let broadcaster = hyper::upgrade::on(&mut answer.response);
                self.open.spawn(self.clone().run(client, broadcaster, answer.connection, seat));
                return Ok(response);
            }
            refusal(answer).await
        };
        let answered = timeout(ANSWER_TIMEOUT, asking).await;
        answered.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in time"))).map_err(|error| {
            tracing::warn!(error = format!("{error:#}"), "cannot reach the broadcaster");
            let detail = "the broadcaster cannot be reached now; try again later";
            Problem::new(ProblemKind::BroadcasterUnavailable, detail)
        })
    }

    async fn run(
        self,
        client: OnUpgrade,
        broadcaster: OnUpgrade,
        connection: AbortOnDropHandle<()>,
        seat: OwnedSemaphorePermit,
    ) {
        let turn = u32::try_from(self.open.len()).unwrap_or(u32::MAX);
        let closing = async {
            self.phases.closing.cancelled().await;
            sleep(CLOSE_STAGGER * turn).await;
        };
        let tunnel = async {
            let both = async { tokio::try_join!(client, broadcaster) };
            match timeout(UPGRADE_TIMEOUT, both).await {
                Ok(Ok((client, broadcaster))) => {
                    relay::join(TokioIo::new(client), TokioIo::new(broadcaster), closing).await;
                }
                Ok(Err(error)) => tracing::debug!(%error, "a tunnel was not completed"),
                Err(_) => tracing::debug!("a tunnel was not completed in time"),
            }
        };
        self.phases.soft_deadline.run_until_cancelled(tunnel).await;
        drop((connection, seat));
    }
}

impl Target {
    fn new(url: &Url) -> Self {
        let host = match url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => String::new(),
        };
        let base = url.path().trim_end_matches('/');
        let base = base.strip_suffix("/api/chat").unwrap_or(base);
        Self {
            host,
            port: url.port_or_known_default().unwrap_or(80),
            authority: url[Position::BeforeHost..Position::AfterPort].to_owned(),
            path: format!("{base}/api/chat"),
        }
    }

    /// Path and query there of a request here.
    fn uri(&self, request: &Request) -> String {
        match request.uri().query() {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }

    /// The request as the broadcaster gets it.
    fn onward(&self, request: &Request) -> anyhow::Result<hyper::Request<Empty<Bytes>>> {
        let mut onward = hyper::Request::new(Empty::new());
        *onward.uri_mut() = self.uri(request).parse::<Uri>()?;
        *onward.headers_mut() = onward_headers(request, &self.authority)?;
        Ok(onward)
    }

    /// Asks the broadcaster, on a connection of its own.
    async fn ask(&self, onward: hyper::Request<Empty<Bytes>>) -> anyhow::Result<Answer> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) =
            http1::Builder::new().max_buf_size(HEAD_BYTES).handshake(TokioIo::new(stream)).await?;
        let connection = AbortOnDropHandle::new(tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "the connection to the broadcaster ended early");
            }
        }));
        Ok(Answer { response: sender.send_request(onward).await?, connection })
    }
}

/// What the broadcaster gets to see. Headers that are for one connection only (RFC 9110, section
/// 7.6.1) are not among those passed on, and made anew.
fn onward_headers(request: &Request, authority: &str) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in request.headers() {
        if is_websocket_header(name) || PASSED_ON.contains(name) {
            headers.append(name, value.clone());
        }
    }
    if let Some(Peer(peer)) = request.extensions().get::<Peer>() {
        headers.append(X_FORWARDED_FOR, HeaderValue::try_from(peer.ip().to_string())?);
    }
    headers.insert(header::HOST, HeaderValue::try_from(authority)?);
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    Ok(headers)
}

/// The broadcaster's 101, for the client.
fn switching_protocols(from_broadcaster: &HeaderMap) -> Response {
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    for (name, value) in from_broadcaster {
        if is_websocket_header(name) {
            headers.append(name, value.clone());
        }
    }
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    response
}

/// Any other answer of the broadcaster, for the client.
async fn refusal(answer: Answer) -> anyhow::Result<Response> {
    let (parts, body) = answer.response.into_parts();
    let body = Limited::new(body, MAX_REFUSAL_BYTES).collect().await;
    let body = body.map_err(anyhow::Error::from_boxed)?.to_bytes();
    let mut response = (parts.status, Body::from(body)).into_response();
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    for (name, value) in &parts.headers {
        if !is_hop_by_hop(name, &parts.headers) {
            headers.append(name, value.clone());
        }
    }
    if parts.status == StatusCode::UPGRADE_REQUIRED {
        // A 426 must say to what, and Connection must name that.
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    Ok(response)
}

/// RFC 6455, section 4.1. HTTP/2 knows no upgrade.
fn asks_for_websocket(request: &Request) -> bool {
    request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && has_token(request.headers(), &header::CONNECTION, "upgrade")
        && has_token(request.headers(), &header::UPGRADE, "websocket")
}

fn is_websocket_header(name: &HeaderName) -> bool {
    name.as_str().starts_with("sec-websocket-")
}

/// Whether this header of a response is about the connection it came on, and not about the answer.
fn is_hop_by_hop(name: &HeaderName, headers: &HeaderMap) -> bool {
    const ALWAYS: [&str; 9] = [
        "connection",
        "content-length",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    ALWAYS.contains(&name.as_str()) || has_token(headers, &header::CONNECTION, name.as_str())
}

fn overloaded(detail: &'static str) -> Problem {
    Problem::new(ProblemKind::Overloaded, detail)
}
