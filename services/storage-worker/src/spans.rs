//! The worker's part of distributed traces. What is done for many commands at once is done in many
//! traces, so each of those gets a span of it; a command whose trace is not recorded costs a look.

use broker::COMMANDS;
use contracts::{Command, Outcome, TraceParent};
use store::StoreError;
use telemetry::traces::{Span, SpanKind, Tracer};

use crate::batch::ReceivedCommand;

/// The spans of one operation on MongoDB, one in the trace of each command that it is for.
pub(crate) struct Writing(Vec<Span>);

/// Begins the span of working on a command, below the one of its publish.
pub(crate) fn received(
    traces: &Tracer,
    command: &Command,
    traceparent: Option<TraceParent>,
    redelivered: bool,
) -> Option<Span> {
    let mut span = traces.message("process messages.commands", traceparent)?;
    span.set_attribute("messaging.system", || "rabbitmq");
    span.set_attribute("messaging.operation.name", || "process");
    span.set_attribute("messaging.operation.type", || "process");
    span.set_attribute("messaging.destination.name", || COMMANDS);
    span.set_attribute("messaging.message.id", || command.id.to_string());
    if redelivered {
        span.set_attribute("messaging.rabbitmq.message.redelivered", || true);
    }
    Some(span)
}

/// Ends the span of a command that came to its end.
pub(crate) fn ended(span: Option<Span>, result: &Outcome) {
    if let Some(mut span) = span {
        span.set_attribute("outcome", || result.kind());
    }
}

/// What the log calls a command, and the trace that it belongs to.
pub(crate) fn log_span(received: &ReceivedCommand) -> tracing::Span {
    let trace = received.traceparent;
    tracing::info_span!(
        "command",
        command.id = %received.id(),
        trace_id = trace.map(|parent| tracing::field::display(parent.trace_id())),
    )
}

impl Writing {
    /// Begins the spans of an operation for these commands.
    pub(crate) fn begin<'a>(
        operation: Operation,
        commands: impl Iterator<Item = &'a ReceivedCommand>,
    ) -> Self {
        let mut number: i64 = 0;
        let mut spans: Vec<Span> = Vec::new();
        for received in commands {
            number += 1;
            let place = received.span.as_ref().and_then(Span::trace);
            spans.extend(
                place.and_then(|place| place.span(SpanKind::Client, operation.span_name())),
            );
        }
        for span in &mut spans {
            span.set_attribute("db.system.name", || "mongodb");
            span.set_attribute("db.collection.name", || "messages");
            span.set_attribute("db.operation.name", || operation.name());
            // By the convention, one alone is no batch.
            if number > 1 {
                span.set_attribute("db.operation.batch.size", || number);
            }
        }
        Self(spans)
    }

    /// Waits for the operation, and ends its spans.
    pub(crate) async fn time<T>(
        mut self,
        operation: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let result = operation.await;
        if let Err(error) = &result {
            for span in &mut self.0 {
                span.set_error(|| error.to_string());
            }
        }
        result
    }
}

/// What is done to the messages.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation {
    /// New ones are stored.
    Insert,
    /// Stored ones are changed.
    Update,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
        }
    }

    fn span_name(self) -> &'static str {
        match self {
            Self::Insert => "insert messages",
            Self::Update => "update messages",
        }
    }
}
