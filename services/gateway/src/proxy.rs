//! `/api/chat`, kept for clients from before the broadcaster had a port of its own. A WebSocket is
//! tunnelled to the broadcaster, since browsers do not follow a redirect of a handshake. Any other
//! request is answered 426.

mod broadcaster;
mod headers;
mod relay;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
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
    time::{sleep, timeout},
};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use url::Url;

use crate::error::{HandlerResult, ProblemResponse};
use broadcaster::Broadcaster;

/// Time from the client's handshake to the broadcaster's whole response. An outage must be answered
/// within 2 s.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(1800);

/// Time for the client to receive the 101, and for the broadcaster to switch.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// Time between the ends of two tunnels when the gateway stops, so that their clients do not all
/// reconnect at once.
const CLOSE_STAGGER: Duration = Duration::from_millis(1);

/// The tunnels to the broadcaster. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tunnel {
    broadcaster: Arc<Broadcaster>,
    permits: Arc<Semaphore>,
    open: TaskTracker,
    phases: Phases,
    outage: Arc<OutageLog>,
}

impl Tunnel {
    /// Returns tunnels to `broadcaster_url` (`http`, with a host), at most `max_tunnels` at a time.
    pub(crate) fn new(broadcaster_url: &Url, max_tunnels: usize, phases: Phases) -> Self {
        Self {
            broadcaster: Arc::new(Broadcaster::new(broadcaster_url)),
            permits: Arc::new(Semaphore::new(max_tunnels)),
            open: TaskTracker::new(),
            phases,
            outage: Arc::new(OutageLog::new("reach the broadcaster at BROADCASTER_URL")),
        }
    }

    /// Responds to a request for `/api/chat`.
    pub(crate) async fn handle(&self, request: Request) -> HandlerResult {
        if !headers::is_websocket_handshake(&request) {
            return Ok(upgrade_required());
        }
        let overloaded = |detail| Problem::new(ProblemKind::Overloaded, detail);
        if self.phases.closing.is_cancelled() {
            return Err(overloaded("this gateway is shutting down; connect again").into());
        }
        let permit = Arc::clone(&self.permits)
            .try_acquire_owned()
            .map_err(|_| overloaded("the gateway has too many WebSockets open; retry later"))?;
        let response = timeout(RESPONSE_TIMEOUT, self.forward(request, permit)).await;
        match response.context("no response within 1.8 s").flatten() {
            Ok(response) => {
                self.outage.succeeded();
                Ok(response)
            }
            Err(error) => {
                self.outage.failed(error.as_ref());
                Err(ProblemKind::BroadcasterUnavailable.into())
            }
        }
    }

    /// Waits until all tunnels have ended. They do once the service closes: each client gets a
    /// close frame, and those that have not left at the soft deadline are cut off.
    pub(crate) async fn close(&self) {
        self.open.close();
        self.open.wait().await;
    }

    async fn forward(
        &self,
        mut request: Request,
        permit: OwnedSemaphorePermit,
    ) -> anyhow::Result<Response> {
        let handshake = self.broadcaster.handshake(&request)?;
        let mut handshake = self.broadcaster.send(handshake).await?;
        if handshake.response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return handshake.into_refusal().await;
        }
        let headers = headers::switching_protocols(handshake.response.headers());
        let client = hyper::upgrade::on(&mut request);
        let broadcaster = hyper::upgrade::on(&mut handshake.response);
        self.open.spawn(self.clone().run(client, broadcaster, handshake.connection, permit));
        Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
    }

    async fn run(
        self,
        client: OnUpgrade,
        broadcaster: OnUpgrade,
        connection: AbortOnDropHandle<()>,
        permit: OwnedSemaphorePermit,
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
fn upgrade_required() -> Response {
    let detail = "this is a WebSocket; connect to it with ws:// or wss://, over HTTP/1.1";
    let problem = Problem::new(ProblemKind::UpgradeRequired, detail);
    let mut response = ProblemResponse::from(problem).into_response();
    headers::upgrade_to_websocket(response.headers_mut());
    let version = HeaderValue::from_static("13");
    response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, version);
    response
}
