//! The fields that all log lines of a request share.

use axum::{extract::Request, http::HeaderValue};
use telemetry::traces::Span;

/// Returns the log span in which a request is served. It names the trace of the request, if any.
pub(super) fn start(
    request: &Request,
    request_id: &HeaderValue,
    trace_span: Option<&Span>,
) -> tracing::Span {
    let log_span = tracing::info_span!(
        "request",
        request.id = request_id.to_str().unwrap_or_default(),
        method = %request.method(),
        path = request.uri().path(),
        trace_id = tracing::field::Empty,
    );
    if let Some(trace_span) = trace_span {
        log_span.record("trace_id", tracing::field::display(trace_span.trace_id()));
    }
    log_span
}
