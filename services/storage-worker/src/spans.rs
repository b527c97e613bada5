//! The worker's part of distributed traces. An operation for many commands belongs to many traces, so
//! each of them gets a span of it. A command whose trace is not recorded costs hardly anything.

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

/// An operation on MongoDB.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation {
    Insert,
    Update,
    Append,
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

/// Runs an operation on MongoDB with a span in the trace of each of its commands.
pub(crate) async fn traced<'a, T>(
    operation: Operation,
    commands: impl ExactSizeIterator<Item = Option<&'a TraceContext>>,
    running: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let number = i64::try_from(commands.len()).unwrap_or(i64::MAX);
    let (name, collection, span_name) = match operation {
        Operation::Insert => ("insert", "messages", "insert messages"),
        Operation::Update => ("update", "messages", "update messages"),
        Operation::Append => ("insert", "events", "append events"),
    };
    let begin = |context: &TraceContext| context.span(SpanKind::Client, span_name);
    let mut spans: Vec<Span> = commands.flatten().filter_map(begin).collect();
    for span in &mut spans {
        span.set_attribute("db.system.name", || "mongodb");
        span.set_attribute("db.collection.name", || collection);
        span.set_attribute("db.operation.name", || name);
        // By the convention, one alone is no batch.
        if number > 1 {
            span.set_attribute("db.operation.batch.size", || number);
        }
    }
    let result = running.await;
    if let Err(error) = &result {
        for span in &mut spans {
            span.set_error(|| error_chain(error).to_string());
        }
    }
    result
}
