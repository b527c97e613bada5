//! The broadcaster's port: health checks and WebSocket handshakes over HTTP/1.1, and the sessions
//! that follow.
//!
//! hyper reads the request and writes the response. Then the session, or the stream of server-sent events, has the bare TCP
//! socket and small buffers of its own, so an idle subscriber costs a few KiB.

mod admission;
pub(crate) mod asyncapi;
pub(crate) mod authentication;
mod authority;
mod close_reason;
mod deadlines;
mod events;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod handshake;
mod purpose;
mod refusal;
mod session;
mod source;
#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    sync::{Arc, Once},
    time::{Duration, Instant},
};

use auth::{bearer, limits::NamedLimit};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use hyper::upgrade::OnUpgrade;
use service::{
    Health, OriginPattern, Phases,
    http::{
        Body, Listener, ListenerSettings, ReadPreconditions, RequestBody, TrustedProxies,
        early_response, into_tcp_stream, methods, problem_page,
    },
};
use telemetry::{
    logging::AccessLog,
    metrics::{CounterFamily, Requests},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tokio_util::task::TaskTracker;

use crate::{
    events::{stream::Timing, tail::Tail, user_limit::UserLimiter},
    fan_out::hub::Hub,
    limits::{
        origins::AllowedOrigins,
        per_ip_limit::{IpPermit, LimitReached, PerIpLimiter},
    },
};
use authentication::{Authentication, Identification};
use authority::Authority;
pub(crate) use deadlines::Timeouts;
use purpose::Purpose;
use refusal::Refusal;
use session::Subscriber;
use source::Source;
use store::Store;

/// Maximum number of connections that are not, or not yet, a subscriber's.
pub(crate) const MAX_HANDSHAKES: usize = 512;

/// Maximum time of each phase of a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Settings of a server.
pub(crate) struct Settings {
    /// Requests that are logged.
    pub(crate) access_log: AccessLog,
    /// Maximum number of subscribers.
    pub(crate) max_subscribers: usize,
    /// Origins of pages that may subscribe.
    pub(crate) origins: AllowedOrigins,
    /// Proxies that tell the addresses of clients.
    pub(crate) trusted_proxies: TrustedProxies,
    /// Limit of subscribers from one address.
    pub(crate) per_ip: PerIpLimiter,
    /// Maximum time over which sessions are closed when the server stops.
    pub(crate) close_spread: Duration,
    /// Number of sessions that are then closed in a second, so that the other replicas do not get all
    /// handshakes at once.
    pub(crate) closes_per_second: u32,
    /// Timeouts of each session.
    pub(crate) timeouts: Timeouts,
    /// Origins of pages, besides those of this host, that may follow events.
    pub(crate) event_origins: Vec<OriginPattern>,
    /// Authentication of clients; `None` for anybody.
    pub(crate) authentication: Option<Arc<Authentication>>,
    /// Limit of requests for events and of handshakes; `None` for any number.
    pub(crate) reads: Option<NamedLimit>,
    /// Limit of event streams of one user.
    pub(crate) per_user: UserLimiter,
    /// Times of each event stream.
    pub(crate) timing: Timing,
}

/// Returns the settings of the listener. Its connection limit does not count subscribers, so health
/// checks are answered however many there are.
pub(crate) fn listener_settings() -> ListenerSettings {
    ListenerSettings {
        http2: false,
        max_connections: MAX_HANDSHAKES,
        // Most handshakes take a millisecond.
        first_request_grace: Duration::from_secs(1),
        first_request_timeout: HANDSHAKE_TIMEOUT,
        write_timeout: HANDSHAKE_TIMEOUT,
        max_header_bytes: 16 * 1024,
        // The subscribers of a broadcaster that has stopped may come at once.
        backlog: 4096,
        // The kernel's default would hold minutes of old frames for a slow subscriber.
        send_buffer_bytes: Some(32 * 1024),
        // The buffer still has room for a minute of frames. With this, it takes a frame only once
        // all before it are on the network.
        max_unsent_bytes: Some(1),
        ..ListenerSettings::default()
    }
}

/// A subscriber's shares of the limits.
type Permits = (OwnedSemaphorePermit, Option<IpPermit>);

/// Sources of what a server serves.
pub(crate) struct Content {
    pub(crate) hub: Arc<Hub>,
    pub(crate) tail: Arc<Tail>,
    pub(crate) store: Arc<Store>,
}

struct Server {
    hub: Arc<Hub>,
    tail: Arc<Tail>,
    store: Arc<Store>,
    health: Health,
    settings: Settings,
    phases: Phases,
    free: Arc<Semaphore>,
    sessions: TaskTracker,
    requests: Requests,
    session_ends: CounterFamily,
    /// Called when a gateway relies on tokens being verified here, and they are not.
    not_enforcing: Once,
}

/// Serves until `closing`, then closes the sessions one by one, until `hard_deadline` at most.
pub(crate) async fn serve(
    listener: Listener,
    content: Content,
    health: Health,
    settings: Settings,
    phases: &Phases,
) {
    let server = Arc::new(Server::new(content, health, settings, phases.clone()));
    let responding = Arc::clone(&server);
    let service = tower::service_fn(move |request| {
        let server = Arc::clone(&responding);
        async move { Ok::<_, Infallible>(server.respond(request).await) }
    });
    let logging = async {
        phases.closing.cancelled().await;
        tracing::info!(subscribers = server.hub.subscribers(), "closing all sessions");
    };
    // In this order: connections that are in their handshake may become sessions.
    tokio::join!(listener.serve(service, phases), logging);
    server.sessions.close();
    if phases.hard_deadline.run_until_cancelled(server.sessions.wait()).await.is_none() {
        let subscribers = server.sessions.len();
        tracing::warn!(subscribers, "grace period over; abandoning open sessions");
    }
}

impl Server {
    fn new(content: Content, health: Health, settings: Settings, phases: Phases) -> Self {
        let Content { hub, tail, store } = content;
        Self {
            hub,
            tail,
            store,
            health,
            free: Arc::new(Semaphore::new(settings.max_subscribers)),
            settings,
            phases,
            sessions: TaskTracker::new(),
            requests: Requests::default(),
            session_ends: session::count_ends(),
            not_enforcing: Once::new(),
        }
    }

    async fn respond(self: &Arc<Self>, mut request: Request<RequestBody>) -> Response<Body> {
        let begun = Instant::now();
        let method = request.method().clone();
        let path = &request.uri().path().to_owned();
        let route = Health::route(path)
            .or_else(|| asyncapi::route(path))
            .or_else(|| problem_page::route(path))
            .or_else(|| handshake::route(path))
            .or_else(|| events::route(path));
        let span = tracing::info_span!("request", %method, path);
        let preconditions = ReadPreconditions::of(&request);
        let response = early_response(&request)
            .or_else(|| self.preflight(&request))
            .or_else(|| methods::unless_read(&method).filter(|_| route.is_some()))
            .or_else(|| self.health.answer(&method, path))
            .or_else(|| asyncapi::respond(&method, path))
            .or_else(|| problem_page::respond(&method, path, request.headers()));
        let response = match (response, route) {
            (Some(response), _) => response,
            (None, Some(events::PATH)) => self.events(&mut request).await,
            (None, Some(handshake::PATH)) => {
                self.subscribe(&mut request).await.unwrap_or_else(Refusal::into_response)
            }
            (None, _) => Refusal::UnknownPath.into_response(),
        };
        let mut response = preconditions.and_then(|it| it.refuse(&response)).unwrap_or(response);
        self.complete(&request, response.headers_mut());
        let response = match response.status() {
            http::StatusCode::SWITCHING_PROTOCOLS => response,
            _ => with_close(response),
        };
        self.requests.answered(&method, route, response.status(), begun.elapsed());
        span.in_scope(|| self.settings.access_log.log(route, response.status(), begun.elapsed()));
        response
    }

    /// Admits a subscriber if its handshake is valid and no limit is reached.
    async fn subscribe(
        self: &Arc<Self>,
        request: &mut Request<RequestBody>,
    ) -> Result<Response<Body>, Refusal> {
        let allowed = |headers: &HeaderMap| self.settings.origins.allow(headers);
        let accept_key = handshake::check(request, allowed)?;
        let identification = self.identify(request, true).await?;
        let permits = self.admit(request)?;
        self.switch(request, accept_key, Purpose::Chat, identification, permits)
    }

    /// Returns the permits of a subscriber, unless a limit is reached.
    fn admit(&self, request: &Request<RequestBody>) -> Result<Permits, Refusal> {
        if self.phases.closing.is_cancelled() {
            return Err(Refusal::ShuttingDown);
        }
        let ip_permit = self.settings.per_ip.try_acquire(self.client_of(request));
        let ip_permit = ip_permit.map_err(|LimitReached| Refusal::IpLimit)?;
        let permit = Arc::clone(&self.free).try_acquire_owned();
        Ok((permit.map_err(|_| Refusal::SubscriberLimit)?, ip_permit))
    }

    /// Makes the connection of a valid handshake a session's. If its client is known, it may have what it comes for;
    /// otherwise the session finds out.
    fn switch(
        self: &Arc<Self>,
        request: &mut Request<RequestBody>,
        accept_key: HeaderValue,
        purpose: Purpose,
        identification: Identification,
        permits: Permits,
    ) -> Result<Response<Body>, Refusal> {
        let source = match identification.caller() {
            Some(caller) => self.open(&purpose, &caller)?,
            None => Source::Closed,
        };
        let authority = Authority::new(self, purpose, self.client_of(request), identification);
        let subprotocol = bearer::offers_subprotocol(request.headers());
        let upgrade = hyper::upgrade::on(request);
        // On the heap: otherwise the task of every session would be that much larger.
        let subscriber = Box::new(Subscriber { source, authority });
        self.sessions.spawn(Arc::clone(self).host(upgrade, subscriber, permits));
        Ok(handshake::switching_protocols(accept_key, subprotocol))
    }

    /// Holds the permits until the session has ended or must.
    async fn host(
        self: Arc<Self>,
        upgrade: OnUpgrade,
        subscriber: Box<Subscriber>,
        permits: Permits,
    ) {
        // With `run_until_cancelled`, the task of each session would hold its state twice.
        tokio::select! {
            () = self.session(upgrade, subscriber) => {}
            () = self.phases.hard_deadline.cancelled() => {}
        }
        drop(permits);
    }

    async fn session(&self, upgrade: OnUpgrade, subscriber: Box<Subscriber>) {
        // This fails if the client leaves before it has the response.
        let Ok(upgraded) = upgrade.await else { return };
        let Some((stream, read_ahead)) = into_tcp_stream(upgraded) else {
            tracing::error!("bug: an upgraded connection is not a TCP connection of the listener");
            return;
        };
        let closing = self.time_to_close();
        let (timeouts, ends) = (self.settings.timeouts, &self.session_ends);
        session::run(stream, read_ahead, subscriber, timeouts, ends, closing).await;
    }

    /// Completes at a random moment after `closing`. The more sessions there are, the later.
    async fn time_to_close(&self) {
        self.phases.closing.cancelled().await;
        let sessions = u32::try_from(self.sessions.len()).unwrap_or(u32::MAX);
        let needed = Duration::from_secs(1) * sessions / self.settings.closes_per_second.max(1);
        let spread = needed.min(self.settings.close_spread);
        sleep(spread.mul_f64(rand::random())).await;
    }
}

/// Makes this the last response of its connection, which then makes room for the next handshake.
fn with_close(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().append(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
