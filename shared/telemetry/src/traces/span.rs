//! Spans, and the contexts in which further spans can be made.

use std::{borrow::Cow, sync::Arc};

use contracts::{TraceId, TraceParent};
use opentelemetry::{
    Context, KeyValue, Value,
    trace::{
        self, Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags,
        TraceState, Tracer as _,
    },
};
use opentelemetry_sdk::trace::SdkTracer;

/// A position in a recorded trace, at which child spans can be made. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TraceContext {
    tracer: Arc<SdkTracer>,
    parent: TraceParent,
}

/// A span. It ends when it is dropped.
#[derive(Debug)]
pub struct Span {
    span: Box<opentelemetry_sdk::trace::Span>,
    /// Context of child spans.
    context: TraceContext,
}

impl TraceContext {
    /// Returns a new child span, or `None` if the tracer is closed.
    #[must_use]
    pub fn span(&self, kind: SpanKind, name: &'static str) -> Option<Span> {
        Span::start(&self.tracer, kind, name, Some(self.parent))
    }
}

impl Span {
    pub(super) fn start(
        tracer: &Arc<SdkTracer>,
        kind: SpanKind,
        name: impl Into<Cow<'static, str>>,
        parent: Option<TraceParent>,
    ) -> Option<Self> {
        let context = parent.map_or_else(Context::new, |parent| {
            Context::new().with_remote_span_context(span_context(parent))
        });
        let builder = tracer.span_builder(name).with_kind(kind);
        let span = Box::new(builder.start_with_context(tracer.as_ref(), &context));
        let made = span.span_context();
        let (trace_id, span_id) = (made.trace_id().to_bytes(), made.span_id().to_bytes());
        // A tracer that is closed gives no ids.
        let parent = TraceParent::new(trace_id, span_id, made.trace_flags().to_u8())?;
        Some(Self { span, context: TraceContext { tracer: Arc::clone(tracer), parent } })
    }

    /// Returns the trace's id, recorded or not.
    #[must_use]
    pub fn trace_id(&self) -> TraceId {
        self.context.parent.trace_id()
    }

    /// Returns the context of child spans if the trace is recorded.
    #[must_use]
    pub fn trace(&self) -> Option<&TraceContext> {
        self.span.is_recording().then_some(&self.context)
    }

    /// Returns the `traceparent` of a message that this span publishes, if the trace is recorded.
    #[must_use]
    pub fn traceparent(&self) -> Option<TraceParent> {
        self.trace().map(|trace| trace.parent)
    }

    /// Sets an attribute, named as in OpenTelemetry's semantic conventions. `value` is only called if
    /// the trace is recorded.
    pub fn set_attribute<V: Into<Value>>(&mut self, key: &'static str, value: impl FnOnce() -> V) {
        if self.span.is_recording() {
            self.span.set_attribute(KeyValue::new(key, value()));
        }
    }

    /// Marks the span as failed. `reason` is only called if the trace is recorded.
    pub fn set_error(&mut self, reason: impl FnOnce() -> String) {
        if self.span.is_recording() {
            self.span.set_status(Status::error(reason()));
        }
    }
}

fn span_context(parent: TraceParent) -> SpanContext {
    SpanContext::new(
        trace::TraceId::from_bytes(parent.trace_id().to_bytes()),
        SpanId::from_bytes(parent.span_id()),
        TraceFlags::new(parent.flags()),
        true,
        TraceState::NONE,
    )
}
