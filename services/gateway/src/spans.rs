//! The spans that a handler starts below its request's span.

use std::convert::Infallible;

use axum::{extract::FromRequestParts, http::request::Parts};
use broker::COMMANDS;
use contracts::Command;
use store::StoreError;
use telemetry::traces::{Span, SpanKind, TraceContext};

/// The trace context of a request; none if the request is not recorded.
pub(crate) struct RequestTrace(Option<TraceContext>);

impl RequestTrace {
    /// Starts the span of publishing a command. The worker's span is its child.
    pub(crate) fn publish(&self, command: &Command) -> Option<Span> {
        let mut span = self.0.as_ref()?.span(SpanKind::Producer, "publish messages.commands")?;
        span.set_attribute("messaging.system", || "rabbitmq");
        span.set_attribute("messaging.operation.name", || "publish");
        span.set_attribute("messaging.operation.type", || "send");
        span.set_attribute("messaging.destination.name", || COMMANDS);
        span.set_attribute("messaging.message.id", || command.id.to_string());
        Some(span)
    }

    /// Runs a read of messages in a span of its own.
    pub(crate) async fn find<T>(
        &self,
        read: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let span = self.0.as_ref().and_then(|trace| trace.span(SpanKind::Client, "find messages"));
        let result = read.await;
        if let Some(mut span) = span {
            span.set_attribute("db.system.name", || "mongodb");
            span.set_attribute("db.collection.name", || "messages");
            span.set_attribute("db.operation.name", || "find");
            if let Err(error) = &result {
                span.set_error(|| error.to_string());
            }
        }
        result
    }
}

impl<S: Sync> FromRequestParts<S> for RequestTrace {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.extensions.get::<TraceContext>().cloned()))
    }
}
