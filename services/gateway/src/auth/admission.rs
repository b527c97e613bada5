//! The layer that admits requests to the API: it finds out who makes a request, and counts it against the limits.

use std::sync::Arc;

use auth::{Authenticator, Caller, Denied, bearer, limits::FailureLimit};
use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header::WWW_AUTHENTICATE},
    middleware::Next,
    response::Response,
};
use service::http::{BaseUrl, TrustedProxies, event_stream, problem};

use super::{RateLimits, rate_limits::Taken};
use crate::{
    error::{MissingScope, RETRY_AFTER},
    proxy::is_websocket_handshake,
};

/// Decides which requests reach a handler.
#[derive(Default)]
pub(crate) struct Admission {
    /// `None` where authentication is off: then anybody is admitted.
    pub(crate) authenticator: Option<Authenticator>,
    pub(crate) failures: FailureLimit,
    pub(crate) limits: RateLimits,
    pub(crate) trusted_proxies: TrustedProxies,
}

/// Resource that a group of routes serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    /// Messages and operations.
    Resources,
    /// `/api/chat`, which is passed on to the broadcaster.
    Chat,
    /// `/api/events`, which is passed on to the broadcaster.
    Events,
}

/// Admits a request or refuses it. Whom it admits is among the request's extensions: see [`super::RequestCaller`].
pub(crate) async fn admit(
    State((admission, served)): State<(Arc<Admission>, Served)>,
    mut request: Request,
    next: Next,
) -> Response {
    let is_handshake = served != Served::Resources && is_websocket_handshake(&request);
    let caller = match admission.identify(request.headers(), is_handshake).await {
        Ok(caller) => caller,
        Err(denied) => return admission.deny(&request, denied),
    };
    let key = caller.as_ref().and_then(Caller::limit_key);
    let taken = admission
        .limits
        .take(request.method(), key, || admission.trusted_proxies.client_of(&request));
    if let Some(taken) = &taken
        && let Some(problem) = taken.refusal()
    {
        let response = match served {
            Served::Events => event_stream::refusal(request.headers(), &problem, taken.reset()),
            Served::Resources | Served::Chat => problem::response(&problem, taken.reset()),
        };
        let mut response = response.map(Body::new);
        taken.describe(response.headers_mut());
        return response;
    }
    let base_url = admission.base_url(&request);
    if let Some(caller) = caller {
        request.extensions_mut().insert(caller);
    }
    let mut response = next.run(request).await;
    complete_challenge(&mut response, base_url.as_ref());
    if let Some(taken) = taken {
        taken.describe(response.headers_mut());
    }
    response
}

impl Admission {
    /// Finds out who makes a request. A WebSocket may have no token yet: the broadcaster may get it in the first message.
    /// That of a browser's WebSocket may be among its subprotocols.
    async fn identify(
        &self,
        headers: &HeaderMap,
        is_handshake: bool,
    ) -> Result<Option<Caller>, Denied> {
        let Some(authenticator) = &self.authenticator else { return Ok(Some(Caller::Unchecked)) };
        let identity = if is_handshake {
            authenticator.identify_handshake(headers).await?
        } else {
            Some(authenticator.identify(headers).await?)
        };
        Ok(identity.map(|identity| Caller::Verified(identity.principal)))
    }

    /// Refuses a request for its token, or for having none. Also for an event stream that is a problem, whose status says that
    /// a new token is needed.
    fn deny(&self, request: &Request, denied: Denied) -> Response {
        let address = self.trusted_proxies.client_of(request);
        let denied = self.failures.count(address, denied);
        // Others count against the limit of failures, or are no fault of the client's.
        let is_counted = matches!(
            denied,
            Denied::NoToken
                | Denied::NoUser
                | Denied::TwoTokens
                | Denied::Invalid { expired: true }
        );
        let taken = is_counted.then(|| self.limits.take(request.method(), None, || address));
        let taken = taken.flatten();
        let mut response = match taken.as_ref().and_then(Taken::refusal) {
            Some(problem) => {
                let reset = taken.as_ref().map_or(RETRY_AFTER, Taken::reset);
                problem::response(&problem, reset)
            }
            None => {
                problem::response(&denied.problem(), denied.retry_after().unwrap_or(RETRY_AFTER))
            }
        }
        .map(Body::new);
        if is_challenged(response.status()) {
            let base_url = self.base_url(request).and_then(|url| url.text());
            let challenge = bearer::challenge(Some(&denied), None, base_url.as_deref());
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        if let Some(taken) = taken {
            taken.describe(response.headers_mut());
        }
        response
    }

    /// Returns the URL that challenges name; `None` where there are none.
    fn base_url(&self, request: &Request) -> Option<BaseUrl> {
        self.authenticator.as_ref().and_then(|_| BaseUrl::of(request, &self.trusted_proxies))
    }
}

/// Completes the refusal of a handler: says which scope is missing, and where the metadata of this API is as its client sees
/// it. The broadcaster knows neither the scheme nor the host that the client has asked.
fn complete_challenge(response: &mut Response, base_url: Option<&BaseUrl>) {
    if !is_challenged(response.status()) {
        return;
    }
    let base_url = base_url.and_then(BaseUrl::text);
    let challenge = match response.extensions().get() {
        Some(MissingScope(scope)) => {
            Some(bearer::challenge(None, Some(*scope), base_url.as_deref()))
        }
        None => response
            .headers()
            .get(WWW_AUTHENTICATE)
            .zip(base_url)
            .and_then(|(theirs, base_url)| bearer::with_metadata_at(theirs, &base_url)),
    };
    if let Some(challenge) = challenge {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
}

/// Returns true for the statuses that a challenge belongs to.
fn is_challenged(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, time::Duration};

    use axum::{
        body::Body,
        http::{HeaderValue, header},
    };
    use contracts::Scope;
    use service::http::Peer;

    use super::*;

    fn request() -> Request {
        let mut request = Request::get("/api/events").header(header::ACCEPT, "text/event-stream");
        let peer: IpAddr = "192.0.2.1".parse().unwrap();
        request.extensions_mut().unwrap().insert(Peer((peer, 1).into()));
        request.body(Body::empty()).unwrap()
    }

    #[test]
    fn a_refused_token_keeps_its_status_also_for_server_sent_events() {
        let admission = Admission::default();
        let retry_after = Duration::from_millis(1500);
        for (denied, status) in [
            (Denied::NoToken, 401),
            (Denied::NoUser, 403),
            (Denied::TwoTokens, 400),
            (Denied::KeysUnavailable { retry_after }, 503),
            (Denied::UnknownKey { retry_after }, 503),
            (Denied::TooManyFailures { retry_after }, 429),
        ] {
            let response = admission.deny(&request(), denied);
            assert_eq!(response.status(), status, "{denied:?}");
            let seconds = response.headers().get(header::RETRY_AFTER).map(HeaderValue::as_bytes);
            assert_eq!(seconds, matches!(status, 429 | 503).then_some(&b"2"[..]), "{denied:?}");
            let is_challenged = response.headers().contains_key(WWW_AUTHENTICATE);
            assert_eq!(is_challenged, matches!(status, 401 | 403), "{denied:?}");
        }
    }

    #[test]
    fn requests_without_a_valid_token_count_by_address() {
        for counted in [Denied::NoToken, Denied::NoUser, Denied::Invalid { expired: true }] {
            let rate = "1/3600s".parse().ok();
            let limits = RateLimits::new(rate, rate);
            let admission = Admission { limits, ..Admission::default() };
            let statuses = [(); 2].map(|()| {
                let response = admission.deny(&request(), counted);
                assert!(response.headers().contains_key("ratelimit"), "{counted:?}");
                response.status().as_u16()
            });
            let first = if counted == Denied::NoUser { 403 } else { 401 };
            assert_eq!(statuses, [first, 429], "{counted:?}");
            // The limit of failures counts these.
            let guess = admission.deny(&request(), Denied::Invalid { expired: false });
            assert_eq!(guess.status(), 401);
        }
    }

    #[test]
    fn a_missing_scope_is_named_even_if_the_client_names_no_host() {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::FORBIDDEN;
        response.extensions_mut().insert(MissingScope(Scope::ReadAll));
        complete_challenge(&mut response, None);
        let expected = "Bearer error=\"insufficient_scope\", scope=\"messages:read-all\"";
        assert_eq!(response.headers()[WWW_AUTHENTICATE], expected);
    }
}
