//! CORS (the Fetch standard): which pages of other origins may call the API.

use std::{convert::Infallible, future::ready, time::Duration};

use axum::{
    extract::Request,
    http::{self, HeaderName, HeaderValue, Method, header},
    response::Response,
};
use service::{OriginPattern, http::prefer::PREFER};
use telemetry::traces::TRACEPARENT;
use tower::{Layer, ServiceExt, service_fn};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::request_id::X_REQUEST_ID;

/// Time for which a browser may cache a preflight response.
const MAX_AGE: Duration = Duration::from_hours(1);

/// The rules of CORS. Their layer is applied to a response that is there already: it takes any `OPTIONS` for a preflight,
/// and as a layer it would miss the refusals of the layers around it.
#[derive(Clone)]
pub(crate) struct Cors(CorsLayer);

impl Cors {
    /// Returns rules that allow these origins, `None` without any. Credentials are not allowed: the API has no cookies, and a
    /// page sets `Authorization` itself.
    pub(crate) fn new(origins: &[OriginPattern]) -> Option<Self> {
        (!origins.is_empty()).then(|| Self(layer(origins)))
    }

    /// Returns the response to a preflight.
    pub(super) async fn preflight(&self, request: Request) -> Response {
        self.apply(request.map(drop), Response::default()).await
    }

    /// Adds the headers that let a page of `origin` read the response.
    pub(super) async fn allow(&self, origin: Option<HeaderValue>, response: Response) -> Response {
        let mut request = http::Request::new(());
        if let Some(origin) = origin {
            request.headers_mut().insert(header::ORIGIN, origin);
        }
        self.apply(request, response).await
    }

    async fn apply(&self, request: http::Request<()>, response: Response) -> Response {
        let mut response = Some(response);
        let respond = service_fn(|_| {
            // It is called at most once.
            ready(Ok::<_, Infallible>(response.take().unwrap_or_default()))
        });
        match self.0.layer(respond).oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// Returns true for a preflight (the Fetch standard): a browser's question if a page may send a request.
pub(super) fn is_preflight(request: &Request) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ORIGIN)
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

fn layer(origins: &[OriginPattern]) -> CorsLayer {
    let allowed = if origins.iter().any(OriginPattern::is_any) {
        AllowOrigin::any()
    } else {
        let listed = origins.to_vec();
        AllowOrigin::predicate(move |origin: &HeaderValue, _| {
            listed.iter().any(|pattern| pattern.matches(origin.as_bytes()))
        })
    };
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_MATCH,
            header::IF_NONE_MATCH,
            // Those of libraries in place of a browser's `EventSource`.
            header::CACHE_CONTROL,
            HeaderName::from_static("last-event-id"),
            HeaderName::from_static("idempotency-key"),
            PREFER,
            X_REQUEST_ID,
            TRACEPARENT,
        ])
        .expose_headers([
            header::ACCEPT_ENCODING,
            header::ALLOW,
            header::ETAG,
            header::LINK,
            header::LOCATION,
            header::RETRY_AFTER,
            HeaderName::from_static("idempotency-replayed"),
            HeaderName::from_static("preference-applied"),
            HeaderName::from_static("ratelimit"),
            HeaderName::from_static("ratelimit-policy"),
            header::WWW_AUTHENTICATE,
            X_REQUEST_ID,
        ])
        .max_age(MAX_AGE)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn a_preflight_is_an_options_with_an_origin_and_a_method() {
        let is_preflight = |method: Method, names: &[HeaderName]| {
            let mut request = Request::new(Body::empty());
            *request.method_mut() = method;
            for name in names {
                request.headers_mut().insert(name, HeaderValue::from_static("x"));
            }
            super::is_preflight(&request)
        };
        let [origin, asked] = [header::ORIGIN, header::ACCESS_CONTROL_REQUEST_METHOD];
        assert!(is_preflight(Method::OPTIONS, &[origin.clone(), asked.clone()]));
        assert!(!is_preflight(Method::PUT, &[origin.clone(), asked.clone()]));
        assert!(!is_preflight(Method::OPTIONS, &[origin]));
        assert!(!is_preflight(Method::OPTIONS, &[asked]));
    }
}
