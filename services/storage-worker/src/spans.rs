//! The worker's part of distributed traces. An operation for many commands belongs to many traces, so
//! each of them gets a span of it. A command whose trace is not recorded costs one look.

use std::collections::HashMap;

use broker::COMMANDS;
use contracts::{CommandId, Outcome, TraceParent};
use store::StoreError;
use telemetry::{
    error_chain,
    traces::{Span, SpanKind, TraceContext, Tracer},
};

/// Spans of the commands in hand whose traces are recorded.
#[derive(Debug, Default)]
pub(crate) struct CommandSpans(HashMap<CommandId, Span>);

/// Spans of one operation on MongoDB, one in the trace of each of its commands.
pub(crate) struct StoreSpans(Vec<Span>);

/// An operation on the stored messages.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation {
    Insert,
    Update,
}

impl CommandSpans {
    /// Begins the span of a command, below the one of its publish. Returns the context for spans
    /// below it.
    pub(crate) fn begin(
        &mut self,
        tracer: &Tracer,
        command: CommandId,
        traceparent: Option<TraceParent>,
        redelivered: bool,
    ) -> Option<TraceContext> {
        let mut span = tracer.message("process messages.commands", traceparent)?;
        span.set_attribute("messaging.system", || "rabbitmq");
        span.set_attribute("messaging.operation.name", || "process");
        span.set_attribute("messaging.operation.type", || "process");
        span.set_attribute("messaging.destination.name", || COMMANDS);
        span.set_attribute("messaging.message.id", || command.to_string());
        if redelivered {
            span.set_attribute("messaging.rabbitmq.message.redelivered", || true);
        }
        let context = span.trace().cloned();
        self.0.insert(command, span);
        context
    }

    /// Ends the span of a command.
    pub(crate) fn end(&mut self, command: CommandId, outcome: &Outcome) {
        if let Some(mut span) = self.0.remove(&command) {
            span.set_attribute("outcome", || outcome.kind());
        }
    }
}

impl StoreSpans {
    /// Begins the spans of an operation for commands with these contexts.
    pub(crate) fn begin<'a>(
        operation: Operation,
        commands: impl ExactSizeIterator<Item = Option<&'a TraceContext>>,
    ) -> Self {
        let number = i64::try_from(commands.len()).unwrap_or(i64::MAX);
        let (name, span_name) = match operation {
            Operation::Insert => ("insert", "insert messages"),
            Operation::Update => ("update", "update messages"),
        };
        let mut spans: Vec<Span> = commands
            .flatten()
            .filter_map(|context| context.span(SpanKind::Client, span_name))
            .collect();
        for span in &mut spans {
            span.set_attribute("db.system.name", || "mongodb");
            span.set_attribute("db.collection.name", || "messages");
            span.set_attribute("db.operation.name", || name);
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
                span.set_error(|| error_chain(error).to_string());
            }
        }
        result
    }
}
