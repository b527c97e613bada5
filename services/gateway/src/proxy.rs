//! Passing requests on to the broadcaster, for clients that know one address only: `/api/chat`, since browsers do not
//! follow a redirect of a handshake, and `/api/events`. A WebSocket is tunnelled; the body of any other response is passed
//! on as it comes.

mod broadcaster;
mod headers;
mod relay;
mod response;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use axum::{
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use contracts::{Problem, ProblemKind};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use service::Phases;
use telemetry::OutageLog;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use url::Url;

use crate::error::{ProblemResponse, problem};
use broadcaster::Broadcaster;
pub(crate) use headers::is_websocket_handshake;

/// Time from the client's request to the head of the broadcaster's response. An outage must be answered within 2 s.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(1800);

/// Maximum silence of the broadcaster in a tunnel or an event stream. It pings every 25 s, and sends a comment every 20 s.
/// It closes silent clients itself, so a silent broadcaster is a dead one.
const MAX_SILENCE: Duration = Duration::from_secs(75);

/// Time for the client to receive the 101, and for the broadcaster to switch.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// Mean time between the ends of two tunnels or event streams when the gateway stops, so that their clients do not all
/// reconnect at once.
const CLOSE_INTERVAL: Duration = Duration::from_millis(1);

/// Passes requests on to the broadcaster. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Proxy {
    broadcaster: Arc<Broadcaster>,
    permits: Arc<Semaphore>,
    max_exchanges: usize,
    tunnels: TaskTracker,
    phases: Phases,
    outage: Arc<OutageLog>,
}

impl Proxy {
    /// Returns a proxy before `broadcaster_url` (`http`, with a host). Up to `max_exchanges` tunnels and responses are open
    /// at a time. With authentication, the broadcaster gets the clients' tokens.
    pub(crate) fn new(
        broadcaster_url: &Url,
        is_auth_on: bool,
        max_exchanges: usize,
        phases: Phases,
    ) -> Self {
        Self {
            broadcaster: Arc::new(Broadcaster::new(broadcaster_url, is_auth_on)),
            permits: Arc::new(Semaphore::new(max_exchanges)),
            max_exchanges,
            tunnels: TaskTracker::new(),
            phases,
            outage: Arc::new(OutageLog::new("reach the broadcaster at BROADCASTER_URL")),
        }
    }

    /// Responds as the broadcaster does, to which the request may be a long poll of `wait`.
    pub(crate) async fn pass_on(
        &self,
        request: &mut Request,
        wait: Duration,
    ) -> Result<Response, Problem> {
        let overloaded = |detail| Problem::new(ProblemKind::Overloaded, detail);
        if self.phases.closing.is_cancelled() {
            return Err(overloaded("this gateway is shutting down; connect again"));
        }
        let permit = Arc::clone(&self.permits).try_acquire_owned().map_err(|_| {
            overloaded("the gateway has too many WebSockets and event streams open; retry later")
        })?;
        match self.exchange(request, wait, permit).await {
            Ok(response) => {
                self.outage.succeeded();
                Ok(response)
            }
            Err(error) => {
                self.outage.failed(error.as_ref());
                Err(problem(ProblemKind::BroadcasterUnavailable))
            }
        }
    }

    /// Completes when a tunnel, a stream or a long poll must end because the service closes: at a random time, the later the
    /// more are open.
    pub(crate) async fn time_to_close(&self) {
        self.phases.closing.cancelled().await;
        let open = self.max_exchanges - self.permits.available_permits();
        let spread = CLOSE_INTERVAL * u32::try_from(open).unwrap_or(u32::MAX);
        let pause = sleep(spread.mul_f64(rand::random()));
        self.phases.soft_deadline.run_until_cancelled(pause).await;
    }

    /// Waits until all tunnels have ended. They do once the service closes: each client gets a
    /// close frame, and those that have not left at the soft deadline are cut off.
    pub(crate) async fn close(&self) {
        self.tunnels.close();
        self.tunnels.wait().await;
    }

    async fn exchange(
        &self,
        request: &mut Request,
        wait: Duration,
        permit: OwnedSemaphorePermit,
    ) -> anyhow::Result<Response> {
        let deadline = Instant::now() + RESPONSE_TIMEOUT;
        let passed_on = self.broadcaster.request(request)?;
        let connection = timeout_at(deadline, self.broadcaster.connect());
        let connection = connection.await.context("no connection within 1.8 s").flatten()?;
        let exchange = timeout_at(deadline + wait, connection.send(passed_on));
        let mut exchange = exchange.await.context("no response in time").flatten()?;
        let is_handshake = headers::is_websocket_handshake(request);
        if is_handshake && exchange.response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let headers = headers::switching_protocols(exchange.response.headers());
            let client = hyper::upgrade::on(request);
            let broadcaster = hyper::upgrade::on(&mut exchange.response);
            let tunnel = self.clone().tunnel(client, broadcaster, exchange.connection, permit);
            self.tunnels.spawn(tunnel);
            return Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response());
        }
        // Whatever else comes from a proxy or from another service, and could tell the client of addresses within.
        ensure!(
            response::is_of_broadcaster(&exchange.response, is_handshake),
            "the response {} is not the broadcaster's",
            exchange.response.status()
        );
        let proxy = self.clone();
        let closing = async move { proxy.time_to_close().await };
        Ok(response::pass_on(exchange, permit, closing))
    }

    async fn tunnel(
        self,
        client: OnUpgrade,
        broadcaster: OnUpgrade,
        connection: AbortOnDropHandle<()>,
        permit: OwnedSemaphorePermit,
    ) {
        let tunnel = async {
            let both = async { tokio::try_join!(client, broadcaster) };
            match timeout(UPGRADE_TIMEOUT, both).await {
                Ok(Ok((client, broadcaster))) => {
                    let (client, broadcaster) = (TokioIo::new(client), TokioIo::new(broadcaster));
                    relay::join(client, broadcaster, self.time_to_close()).await;
                }
                Ok(Err(error)) => tracing::debug!(%error, "a tunnel's upgrade failed"),
                Err(_) => tracing::debug!("a tunnel's upgrade timed out"),
            }
        };
        self.phases.soft_deadline.run_until_cancelled(tunnel).await;
        drop((connection, permit));
    }
}

/// Returns the response to a request that asks for no WebSocket, as the broadcaster would respond. Where the broadcaster
/// is concerns the operators only: it may be an address that no client can reach.
pub(crate) fn upgrade_required() -> Response {
    let detail = "this is a WebSocket; connect to it with ws:// or wss://, over HTTP/1.1";
    let problem = Problem::new(ProblemKind::UpgradeRequired, detail);
    let mut response = ProblemResponse::from(problem).into_response();
    headers::upgrade_to_websocket(response.headers_mut());
    let version = HeaderValue::from_static("13");
    response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, version);
    response
}
