//! The fields that all log lines of a request share.

use axum::{extract::Request, http::HeaderValue};

/// Returns the span in which a request is served. Named after its trace if it is traced.
pub(super) fn span(
    request: &Request,
    request_id: &HeaderValue,
    trace: Option<&telemetry::traces::Span>,
) -> tracing::Span {
    let span = tracing::info_span!(
        "request",
        request.id = request_id.to_str().unwrap_or_default(),
        method = %request.method(),
        path = request.uri().path(),
        trace_id = tracing::field::Empty,
    );
    if let Some(trace) = trace {
        span.record("trace_id", tracing::field::display(trace.trace_id()));
    }
    span
}
