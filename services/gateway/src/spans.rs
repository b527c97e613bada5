//! A request's part of a distributed trace: the span of the request, and those of what its handler
//! waits for. Nothing is done here where no collector is configured.

use std::convert::Infallible;

use axum::{
    extract::{FromRequestParts, MatchedPath, Request},
    http::{HeaderValue, Method, StatusCode, request::Parts},
};
use broker::{COMMANDS, PublishError};
use contracts::Command;
use store::StoreError;
use telemetry::traces::{Span, SpanKind, TraceContext, Tracer};

/// Requests elsewhere are probes and documentation: they say nothing, and there are many.
const TRACED: &str = "/api/";

/// The place in its request's trace that a handler works at; nowhere where that is not recorded.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestTrace(Option<TraceContext>);

/// Begins the span of a request, and leaves its handler the place below it.
pub(crate) fn begin(
    traces: &Tracer,
    request: &mut Request,
    route: Option<&MatchedPath>,
    id: &HeaderValue,
) -> Option<Span> {
    if !traces.is_on() {
        return None;
    }
    let route = route.map(MatchedPath::as_str).filter(|route| route.starts_with(TRACED))?;
    let method = known_method(request.method());
    // The convention's word for what is none of the methods that everybody knows.
    let verb = method.unwrap_or("HTTP");
    let mut span = traces.request(|| format!("{verb} {route}"), request.headers())?;
    span.set_attribute("http.request.method", || method.unwrap_or("_OTHER").to_owned());
    span.set_attribute("http.route", || route.to_owned());
    span.set_attribute("url.path", || request.uri().path().to_owned());
    // As the log calls it.
    span.set_attribute("request.id", || id.to_str().unwrap_or_default().to_owned());
    if let Some(trace) = span.trace() {
        request.extensions_mut().insert(trace.clone());
    }
    Some(span)
}

/// Ends the span of a request that was answered.
pub(crate) fn end(span: Option<Span>, status: StatusCode) {
    let Some(mut span) = span else { return };
    span.set_attribute("http.response.status_code", || i64::from(status.as_u16()));
    if status.is_server_error() {
        span.set_error(|| format!("answered {status}"));
    }
}

impl RequestTrace {
    /// Begins the span of publishing a command, which its worker will go on from.
    pub(crate) fn publish(&self, command: &Command) -> Option<Span> {
        let mut span = self.0.as_ref()?.span(SpanKind::Producer, "publish messages.commands")?;
        span.set_attribute("messaging.system", || "rabbitmq");
        span.set_attribute("messaging.operation.name", || "publish");
        span.set_attribute("messaging.operation.type", || "send");
        span.set_attribute("messaging.destination.name", || COMMANDS);
        span.set_attribute("messaging.message.id", || command.id.to_string());
        Some(span)
    }

    /// Waits for a read of messages, in a span of its own.
    pub(crate) async fn find<T>(
        &self,
        finding: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let span = self.0.as_ref().and_then(|trace| trace.span(SpanKind::Client, "find messages"));
        let found = finding.await;
        if let Some(mut span) = span {
            span.set_attribute("db.system.name", || "mongodb");
            span.set_attribute("db.collection.name", || "messages");
            span.set_attribute("db.operation.name", || "find");
            if let Err(error) = &found {
                span.set_error(|| error.to_string());
            }
        }
        found
    }
}

/// Ends the span of a publish that the broker confirmed, or did not.
pub(crate) fn published<T>(span: Option<Span>, confirmed: &Result<T, PublishError>) {
    if let (Some(mut span), Err(error)) = (span, confirmed) {
        span.set_error(|| error.to_string());
    }
}

impl<S: Sync> FromRequestParts<S> for RequestTrace {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.extensions.get::<TraceContext>().cloned()))
    }
}

/// The methods of RFC 9110 and RFC 5789. A client may make up others without end.
fn known_method(method: &Method) -> Option<&'static str> {
    const KNOWN: [&str; 9] =
        ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE"];
    KNOWN.into_iter().find(|known| method.as_str() == *known)
}
