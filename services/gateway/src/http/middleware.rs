//! What every request passes through on its way to a handler, and every answer on its way back.

mod body_drain;

use std::{
    any::Any,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use contracts::{Problem, ProblemKind};
use telemetry::traces::TRACEPARENT;
use tokio::sync::Semaphore;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tracing::Instrument;
use uuid::Uuid;

use body_drain::Unread;

use crate::{
    config::AllowedOrigin,
    http::responses::{self, ProblemResponse, with_header},
    spans,
    state::AppState,
};

/// Names a request, in its answer and in the log.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The most characters of a request id that a client may choose.
const MAX_REQUEST_ID_CHARACTERS: usize = 128;

/// How long a browser may remember what CORS allows.
const CORS_MAX_AGE: Duration = Duration::from_hours(1);

/// Takes or makes the request's id, gives it to the log and the answer, counts the request, and
/// makes its span where traces are recorded. Says so if the answer is the connection's last: when
/// the request could not be read to its end, and while draining, so that the balancer leads the
/// client to another gateway.
pub(crate) async fn observe(
    State(app): State<Arc<AppState>>,
    mut request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let id = request_id(request.headers());
    request.headers_mut().insert(X_REQUEST_ID, id.clone());
    let traced = spans::begin(&app.traces, &mut request, route.as_ref(), &id);
    let span = tracing::info_span!(
        "request",
        request.id = id.to_str().unwrap_or_default(),
        method = %request.method(),
        path = request.uri().path(),
        trace_id = tracing::field::Empty,
    );
    if let Some(traced) = &traced {
        span.record("trace_id", tracing::field::display(traced.trace_id()));
    }
    // HTTP/2 knows no Connection header; its connections are told to go away when the service
    // closes.
    let http1 = request.version() < Version::HTTP_2;
    let (request, unread) = Unread::watch(request);
    let mut response = next.run(request).instrument(span.clone()).await;
    let status = response.status();
    let route = route.as_ref().map(MatchedPath::as_str);
    app.requests.answered(&method, route, status, begun.elapsed());
    span.in_scope(|| app.access_log.log(status, begun.elapsed()));
    spans::end(traced, status);
    response.headers_mut().insert(X_REQUEST_ID, id);
    if status == StatusCode::SWITCHING_PROTOCOLS || !http1 {
        return response;
    }
    if app.draining.is_cancelled() || !unread.read_to_end().await {
        return with_header(response, header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Refuses requests beyond what can be worked on at once, before anything is read of them.
pub(crate) async fn shed_load(
    State(free): State<Arc<Semaphore>>,
    request: Request,
    next: Next,
) -> Response {
    let Ok(_permit) = free.try_acquire() else {
        let detail = "too many requests are being served; try again later";
        return ProblemResponse(Problem::new(ProblemKind::Overloaded, detail)).into_response();
    };
    next.run(request).await
}

/// The answer to a request whose handler panicked.
#[expect(clippy::needless_pass_by_value, reason = "the layer's signature")]
pub(crate) fn panicked(payload: Box<dyn Any + Send + 'static>) -> Response {
    responses::internal(service::panic_message(payload.as_ref())).into_response()
}

/// Which pages of other origins may call the API (the Fetch standard's CORS protocol): none
/// unless configured. No credentials: the API knows no cookies.
pub(crate) fn cors(origins: &[AllowedOrigin]) -> CorsLayer {
    let allowed = if origins.contains(&AllowedOrigin::Any) {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().filter_map(|origin| match origin {
            AllowedOrigin::Any => None,
            AllowedOrigin::Origin(origin) => HeaderValue::from_str(origin.as_str()).ok(),
        }))
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
        .max_age(CORS_MAX_AGE)
}

/// The client's id if it is one that a log can bear, else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let usable = |value: &&HeaderValue| {
        (1..=MAX_REQUEST_ID_CHARACTERS).contains(&value.len())
            && value.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    if let Some(taken) = headers.get(X_REQUEST_ID).filter(usable) {
        return taken.clone();
    }
    let made = Uuid::now_v7().to_string();
    // A UUID's digits and dashes are fit for a header.
    HeaderValue::try_from(made).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, middleware::from_fn_with_state, routing::get};
    use tokio::sync::Notify;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_request_too_many_is_refused_at_once_and_later_ones_are_served() {
        let (begun, end) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let handler = {
            let (begun, end) = (Arc::clone(&begun), Arc::clone(&end));
            move || async move {
                begun.notify_one();
                end.notified().await;
            }
        };
        let free = Arc::new(Semaphore::new(1));
        let router =
            Router::new().route("/", get(handler)).layer(from_fn_with_state(free, shed_load));
        let ask = || router.clone().oneshot(Request::new(Body::empty()));
        let first = tokio::spawn(ask());
        begun.notified().await;
        let refused = ask().await.unwrap();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(refused.headers().contains_key(header::RETRY_AFTER));
        end.notify_one();
        assert_eq!(first.await.unwrap().unwrap().status(), StatusCode::OK);
        end.notify_one();
        assert_eq!(ask().await.unwrap().status(), StatusCode::OK);
    }

    #[test]
    fn a_request_id_is_taken_if_it_fits_and_made_otherwise() {
        let read = |value: &str| {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            let headers = HeaderMap::from_iter([(X_REQUEST_ID, value.clone())]);
            request_id(&headers) == value
        };
        assert!(read("req-1"));
        assert!(!read(""));
        assert!(!read("two words"));
        assert!(!read(&"x".repeat(129)));
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }
}
