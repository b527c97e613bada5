//! `GET /api/events`, by whichever way a client follows: server-sent events, a WebSocket, or JSON.

use std::{future::pending, sync::Arc, time::Duration};

use auth::{Caller, Denied};
use futures_util::Stream;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use service::{
    http::{Body, ConnectionShare, RequestBody, TakeOver, body, event_stream, prefer::Preference},
    origin,
};
use telemetry::metrics::GaugeGuard;
use tokio::{
    net::TcpStream,
    sync::oneshot,
    time::{sleep_until, timeout},
};

use super::{
    Permits, Server, handshake,
    purpose::{Kind, MAX_DUE, Purpose, permitted},
    refusal::Refusal,
};
use crate::{
    events::{
        follower::Follower,
        metrics::Transport,
        poll,
        request::{Follows, StreamRequest},
        sse, stream,
        user_limit::UserPermit,
    },
    limits::token_expiry::TokenExpiry,
};

pub(super) const PATH: &str = "/api/events";

/// Headers of the response that tells a page of an allowed origin what it may send.
const PREFLIGHT: [(HeaderName, HeaderValue); 4] = [
    (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET")),
    (
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("authorization, last-event-id, prefer"),
    ),
    (header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600")),
    (header::VARY, HeaderValue::from_static("Origin")),
];

/// Maximum time that reading a page may take, besides the wait for an event. Gateways wait little longer.
const POLL_READ_TIMEOUT: Duration = Duration::from_millis(1_500);

/// Returns the route of `path` if it is that of event streams.
pub(super) fn route(path: &str) -> Option<&'static str> {
    (path == PATH).then_some(PATH)
}

/// A request for events that may be served.
struct Admitted {
    asked: StreamRequest,
    follows: Follows,
    caller: Caller,
    expiry: Option<TokenExpiry>,
    permits: Permits,
}

impl Server {
    /// Responds to a request for events.
    pub(super) async fn events(
        self: &Arc<Self>,
        request: &mut Request<RequestBody>,
    ) -> Response<Body> {
        if handshake::asks_for_websocket(request.headers()) {
            return self.events_by_websocket(request).await.unwrap_or_else(Refusal::into_response);
        }
        let response = match self.admit_stream(request).await {
            Ok(admitted) if event_stream::is_requested(request.headers()) => {
                self.events_by_sse(request, admitted)
            }
            Ok(admitted) => self.events_by_poll(request, admitted).await,
            Err(refusal) => Err(refusal),
        };
        let mut response = response.unwrap_or_else(|refusal| refusal.of_events(request.headers()));
        let headers = response.headers_mut();
        headers.append(header::VARY, HeaderValue::from_static("Accept, Origin"));
        if let Some(origin) = request.headers().get(header::ORIGIN)
            && self.is_allowed(request)
        {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        }
        response
    }

    /// Returns the response to a browser that asks whether a page may send its token with a request for events (CORS
    /// preflight: Fetch standard, section 4.8).
    pub(super) fn preflight(&self, request: &Request<RequestBody>) -> Option<Response<Body>> {
        let headers = request.headers();
        let origin = headers.get(header::ORIGIN)?;
        let is_preflight = request.method() == Method::OPTIONS
            && request.uri().path() == PATH
            && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if !is_preflight || !self.is_allowed(request) {
            return None;
        }
        let mut response = Response::new(body::full(""));
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.extend(PREFLIGHT);
        Some(response)
    }

    /// Returns true if the request comes from no page, or from one that may follow events.
    fn is_allowed(&self, request: &Request<RequestBody>) -> bool {
        origin::is_allowed(request, &self.settings.event_origins)
    }

    async fn events_by_websocket(
        self: &Arc<Self>,
        request: &mut Request<RequestBody>,
    ) -> Result<Response<Body>, Refusal> {
        let accept_key = handshake::check(request, |_| self.is_allowed(request))?;
        let identification = self.identify(request, true).await?;
        let asked = read(request, identification.caller().as_ref())?;
        let permits = self.admit_long(request)?;
        self.switch(request, accept_key, Purpose::Events(asked), identification, permits)
    }

    fn events_by_sse(
        self: &Arc<Self>,
        request: &Request<RequestBody>,
        admitted: Admitted,
    ) -> Result<Response<Body>, Refusal> {
        let Admitted { asked, follows, caller, expiry, permits } = admitted;
        let follower = self.follower(follows.clone(), &asked, Some(MAX_DUE))?;
        if request.method() == Method::HEAD {
            return Ok(event_stream::response(body::full("")));
        }
        let permit = self.acquire(&follows, &caller);
        let steps = self.steps(Transport::Sse, follower, permit, expiry);
        let (take_over, connection) = TakeOver::new();
        self.sessions.spawn(Arc::clone(self).host_sse(connection, steps, permits));
        let mut response = event_stream::response(body::full(""));
        response.extensions_mut().insert(take_over);
        Ok(response)
    }

    /// Holds the permits until the stream has ended or must.
    async fn host_sse(
        self: Arc<Self>,
        connection: oneshot::Receiver<TcpStream>,
        steps: impl Stream<Item = stream::Step>,
        permits: Permits,
    ) {
        let streaming = async {
            // This fails if the client leaves before it has the response.
            let Ok(connection) = connection.await else { return };
            let (timeouts, closing) = (self.settings.timeouts, self.time_to_close());
            sse::serve(connection, steps, timeouts.send, timeouts.close, closing).await;
        };
        tokio::select! {
            () = streaming => {}
            () = self.phases.hard_deadline.cancelled() => {}
        }
        drop(permits);
    }

    async fn events_by_poll(
        self: &Arc<Self>,
        request: &Request<RequestBody>,
        admitted: Admitted,
    ) -> Result<Response<Body>, Refusal> {
        let Admitted { asked, follows, caller, expiry, permits } = admitted;
        let follower = self.follower(follows.clone(), &asked, None)?;
        let preference = match Preference::read(request.headers()) {
            Some(Preference::Wait(wait)) if request.method() == Method::GET => Some(wait),
            _ => None,
        };
        let (open, sent) = self.tail.metrics.of(Transport::Poll);
        let wait = preference.unwrap_or(Duration::ZERO);
        // Only one that waits is like a stream: a client may read many pages, one after the other.
        let permit = match preference {
            Some(_) => Some(self.acquire(&follows, &caller)),
            None => self.acquire_share(Kind::Page, &caller),
        };
        let displaced = async {
            match &permit {
                Some(permit) => permit.displaced().await,
                None => pending().await,
            }
        };
        let ending = async {
            let expired = async {
                match expiry {
                    Some(expiry) => sleep_until(expiry.end()).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = expired => {}
                () = self.time_to_close() => {}
            }
        };
        let polling = poll::respond(follower, wait, ending, &sent, GaugeGuard::new(&open));
        let response = tokio::select! {
            response = timeout(wait + POLL_READ_TIMEOUT, polling) => response,
            // A page at once would bring the client back at once, to displace the next one.
            () = displaced => return Err(Refusal::Crowded),
        };
        let response = response.map_err(anyhow::Error::from).and_then(|it| Ok(it?));
        let mut response = response.map_err(|error| {
            tracing::debug!(error = %format!("{error:#}"), "cannot read events");
            Refusal::NoLog
        })?;
        if let Some(wait) = preference {
            Preference::Wait(wait).apply_to(response.headers_mut());
        }
        // A client that takes its time counts until it has the page.
        Ok(response.map(|body| {
            body::boxed(body.map_err(move |error| {
                let _permits = &permits;
                error
            }))
        }))
    }

    /// Admits a request for events that is no WebSocket's.
    async fn admit_stream(&self, request: &mut Request<RequestBody>) -> Result<Admitted, Refusal> {
        if !self.is_allowed(request) {
            return Err(Refusal::OriginForbidden);
        }
        let identification = self.identify(request, false).await?;
        // Only a WebSocket's client may be unknown.
        let caller = identification.caller().ok_or(Denied::NoToken)?;
        let expiry = identification.expiry();
        let asked = read(request, Some(&caller))?;
        let follows = permitted(&asked, &caller)?;
        let permits = self.admit_long(request)?;
        Ok(Admitted { asked, follows, caller, expiry, permits })
    }

    /// Returns the permits of a request that may last.
    fn admit_long(&self, request: &Request<RequestBody>) -> Result<Permits, Refusal> {
        let permits = self.admit(request)?;
        // It is limited as a subscriber now.
        if let Some(share) = request.extensions().get::<ConnectionShare>() {
            share.give_up();
        }
        Ok(permits)
    }

    pub(super) fn steps(
        &self,
        transport: Transport,
        follower: Follower,
        permit: UserPermit,
        expiry: Option<TokenExpiry>,
    ) -> impl Stream<Item = stream::Step> + Send + use<> {
        stream::steps(&self.tail, transport, follower, permit, self.settings.timing, expiry)
    }
}

/// Reads what a request for events asks for. The caller is not known before its token has come.
fn read(request: &Request<RequestBody>, caller: Option<&Caller>) -> Result<StreamRequest, Refusal> {
    let needs_user = caller.is_some_and(|caller| caller.user().is_none());
    StreamRequest::read(request.uri().query(), request.headers(), needs_user)
        .map_err(|problem| Refusal::Invalid(Box::new(problem)))
}
