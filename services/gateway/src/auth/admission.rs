//! The layer that admits requests to the API: it finds out who makes a request, and counts it against the limits.

use std::{sync::Arc, time::Duration};

use auth::{
    Authenticator, Caller, Denied, Identity,
    bearer,
    limits::FailureLimit,
};
use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header::WWW_AUTHENTICATE},
    middleware::Next,
    response::Response,
};
use contracts::Problem;
use service::http::{BaseUrl, TrustedProxies, event_stream, problem};

use super::RateLimits;
use crate::{
    error::{self, MissingScope, RETRY_AFTER},
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

/// What a group of routes serves.
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
        Err(denied) => return admission.deny(&request, served, denied),
    };
    let subject = caller.as_ref().and_then(Caller::subject);
    let taken = admission
        .limits
        .take(request.method(), subject, || admission.trusted_proxies.client_of(&request));
    if let Some(taken) = &taken
        && let Some(problem) = taken.refusal()
    {
        let mut response = refuse(request.headers(), served, &problem, taken.reset());
        taken.describe(response.headers_mut());
        return response;
    }
    let base_url = admission.base_url(&request);
    if let Some(caller) = caller {
        request.extensions_mut().insert(caller);
    }
    let mut response = next.run(request).await;
    if let Some(base_url) = base_url {
        complete_challenge(&mut response, &base_url);
    }
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
        let Identity { principal, .. } = if let Some(token) = bearer::token(headers)? {
            authenticator.verify(token).await?
        } else if is_handshake {
            let Some(token) = bearer::of_subprotocols(headers)? else { return Ok(None) };
            authenticator.verify(&token).await?
        } else {
            return Err(Denied::NoToken);
        };
        Ok(Some(Caller::Verified(principal)))
    }

    /// Refuses a request for its token, or for having none.
    fn deny(&self, request: &Request, served: Served, denied: Denied) -> Response {
        let denied = self.failures.count(self.trusted_proxies.client_of(request), denied);
        let retry_after = denied.retry_after().map_or(RETRY_AFTER, whole_seconds);
        let mut response = refuse(request.headers(), served, &error::denied(&denied), retry_after);
        if is_challenged(response.status()) {
            let base_url = self.base_url(request).and_then(|url| url.text());
            let challenge = bearer::challenge(Some(&denied), None, base_url.as_deref());
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }

    /// Returns the URL that challenges name; `None` where there are none.
    fn base_url(&self, request: &Request) -> Option<BaseUrl> {
        self.authenticator.as_ref().and_then(|_| BaseUrl::of(request, &self.trusted_proxies))
    }
}

fn refuse(
    headers: &HeaderMap,
    served: Served,
    refusal: &Problem,
    retry_after: Duration,
) -> Response {
    let response = match served {
        Served::Events => event_stream::refusal(headers, refusal, retry_after),
        Served::Resources | Served::Chat => problem::response(refusal, retry_after),
    };
    response.map(Body::new)
}

/// Completes the refusal of a handler: says which scope is missing, and where the metadata of this API is as its client sees
/// it. The broadcaster knows neither the scheme nor the host that the client has asked.
fn complete_challenge(response: &mut Response, base_url: &BaseUrl) {
    if !is_challenged(response.status()) {
        return;
    }
    let base_url = base_url.text();
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

/// Rounds up, so that a client does not come too early.
pub(super) fn whole_seconds(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs() + u64::from(duration.subsec_nanos() > 0))
}
