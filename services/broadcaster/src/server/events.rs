//! `GET /api/events`, by whichever way a client follows: server-sent events, a WebSocket, or JSON.

use std::{future::pending, sync::Arc, time::Duration};

use futures_util::Stream;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::BodyExt;
use service::{
    http::{Body, ConnectionShare, RequestBody, TakeOver, body, event_stream, prefer::Preference},
    origin,
};
use telemetry::metrics::GaugeGuard;
use tokio::{net::TcpStream, sync::oneshot, time::timeout};

use super::{Permits, Server, handshake, refusal::Refusal, session::Source};
use crate::events::{
    follower::Follower, metrics::Transport, poll, request::StreamRequest, sse, stream, websocket,
};

pub(super) const PATH: &str = "/api/events";

/// Number of changes behind a position beyond which a stream starts over: a client that lists again is done sooner.
const MAX_DUE: u32 = 10_000;

/// Maximum time that reading a page may take, besides the wait for an event. Gateways wait little longer.
const POLL_READ_TIMEOUT: Duration = Duration::from_millis(1_500);

/// Returns the route of `path` if it is that of event streams.
pub(super) fn route(path: &str) -> Option<&'static str> {
    (path == PATH).then_some(PATH)
}

impl Server {
    /// Responds to a request for events.
    pub(super) async fn events(
        self: &Arc<Self>,
        request: &mut Request<RequestBody>,
    ) -> Response<Body> {
        if handshake::asks_for_websocket(request.headers()) {
            return self.events_by_websocket(request).unwrap_or_else(Refusal::into_response);
        }
        let response = if event_stream::is_requested(request.headers()) {
            self.events_by_sse(request)
        } else {
            self.events_by_poll(request).await
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

    /// Returns true if the request comes from no page, or from one that may follow events.
    fn is_allowed(&self, request: &Request<RequestBody>) -> bool {
        origin::is_allowed(request, &self.settings.event_origins)
    }

    fn events_by_websocket(
        self: &Arc<Self>,
        request: &mut Request<RequestBody>,
    ) -> Result<Response<Body>, Refusal> {
        let accept_key = handshake::check(request, |_| self.is_allowed(request))?;
        let (asked, permits) = self.admit_stream(request)?;
        let follower = self.follower(&asked, Some(MAX_DUE))?;
        let steps = self.steps(Transport::WebSocket, follower, &asked);
        Ok(self.switch(
            request,
            accept_key,
            Source::Events(Box::pin(websocket::frames(steps))),
            permits,
        ))
    }

    fn events_by_sse(
        self: &Arc<Self>,
        request: &Request<RequestBody>,
    ) -> Result<Response<Body>, Refusal> {
        let (asked, permits) = self.admit_stream(request)?;
        let follower = self.follower(&asked, Some(MAX_DUE))?;
        if request.method() == Method::HEAD {
            return Ok(event_stream::response(body::full("")));
        }
        let steps = self.steps(Transport::Sse, follower, &asked);
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
    ) -> Result<Response<Body>, Refusal> {
        let (asked, permits) = self.admit_stream(request)?;
        let follower = self.follower(&asked, None)?;
        let preference = match Preference::read(request.headers()) {
            Some(Preference::Wait(wait)) if request.method() == Method::GET => Some(wait),
            _ => None,
        };
        let (open, sent) = self.tail.metrics.of(Transport::Poll);
        let wait = preference.unwrap_or(Duration::ZERO);
        // Only one that waits is like a stream: a client may read many pages, one after the other.
        let permit = preference.map(|_| self.settings.per_user.acquire(&asked.follows.user));
        let ending = async {
            let displaced = async {
                match &permit {
                    Some(permit) => permit.displaced().await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = displaced => {}
                () = self.time_to_close() => {}
            }
        };
        let polling = poll::respond(follower, wait, ending, &sent, GaugeGuard::new(&open));
        let response = timeout(wait + POLL_READ_TIMEOUT, polling).await;
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

    fn admit_stream(
        &self,
        request: &Request<RequestBody>,
    ) -> Result<(StreamRequest, Permits), Refusal> {
        if !self.is_allowed(request) {
            return Err(Refusal::OriginForbidden);
        }
        let asked = StreamRequest::read(request.uri().query(), request.headers())
            .map_err(|problem| Refusal::Invalid(Box::new(problem)))?;
        let permits = self.admit(request)?;
        // It is limited as a subscriber now.
        if let Some(share) = request.extensions().get::<ConnectionShare>() {
            share.give_up();
        }
        Ok((asked, permits))
    }

    fn follower(&self, asked: &StreamRequest, max_due: Option<u32>) -> Result<Follower, Refusal> {
        let follows = asked.follows.clone();
        Follower::new(&self.tail, &self.store, follows, asked.after, max_due)
            .map_err(|_| Refusal::NotFollowing)
    }

    fn steps(
        &self,
        transport: Transport,
        follower: Follower,
        asked: &StreamRequest,
    ) -> impl Stream<Item = stream::Step> + Send + use<> {
        let permit = self.settings.per_user.acquire(&asked.follows.user);
        stream::steps(&self.tail, transport, follower, permit, self.settings.timing)
    }
}
