//! CORS (the Fetch standard): which pages of other origins may call the API.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, header};
use service::OriginPattern;
use telemetry::traces::TRACEPARENT;
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::request_id::X_REQUEST_ID;

/// Time for which a browser may cache a preflight response.
const MAX_AGE: Duration = Duration::from_hours(1);

/// Returns the layer that allows these origins. Credentials are not allowed: the API has no cookies.
pub(crate) fn layer(origins: &[OriginPattern]) -> CorsLayer {
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
            header::CONTENT_TYPE,
            header::IF_MATCH,
            header::IF_NONE_MATCH,
            HeaderName::from_static("idempotency-key"),
            HeaderName::from_static("prefer"),
            X_REQUEST_ID,
            TRACEPARENT,
        ])
        .expose_headers([
            header::ETAG,
            header::LINK,
            header::LOCATION,
            header::RETRY_AFTER,
            HeaderName::from_static("idempotency-replayed"),
            HeaderName::from_static("preference-applied"),
            X_REQUEST_ID,
        ])
        .max_age(MAX_AGE)
}
