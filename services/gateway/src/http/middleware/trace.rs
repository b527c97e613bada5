//! The server span of a request. Nothing is recorded unless a collector is configured.

use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderValue, Method, StatusCode},
};
use telemetry::traces::{Span, Tracer};

/// Routes that are traced. The others are probes and documentation: many, and of no interest.
const TRACED_PREFIX: &str = "/api/";

/// Starts the server span of a request, and passes its trace context on to the handler.
pub(super) fn start(
    tracer: &Tracer,
    request: &mut Request,
    route: Option<&MatchedPath>,
    request_id: &HeaderValue,
) -> Option<Span> {
    let route = route.map(MatchedPath::as_str).filter(|route| route.starts_with(TRACED_PREFIX))?;
    let method = known_method(request.method());
    // The semantic conventions' name for an unknown method.
    let verb = method.unwrap_or("HTTP");
    let mut span = tracer.request(|| format!("{verb} {route}"), request.headers())?;
    span.set_attribute("http.request.method", || method.unwrap_or("_OTHER").to_owned());
    span.set_attribute("http.route", || route.to_owned());
    span.set_attribute("url.path", || request.uri().path().to_owned());
    span.set_attribute("request.id", || request_id.to_str().unwrap_or_default().to_owned());
    if let Some(trace) = span.trace() {
        request.extensions_mut().insert(trace.clone());
    }
    Some(span)
}

/// Ends the span with the status of the response.
pub(super) fn end(span: Option<Span>, status: StatusCode) {
    let Some(mut span) = span else { return };
    span.set_attribute("http.response.status_code", || i64::from(status.as_u16()));
    if status.is_server_error() {
        span.set_error(|| format!("answered {status}"));
    }
}

/// Returns a method of RFC 9110 or RFC 5789. A client may invent any number of others.
fn known_method(method: &Method) -> Option<&'static str> {
    const KNOWN: [&str; 9] =
        ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE"];
    KNOWN.into_iter().find(|known| method.as_str() == *known)
}
