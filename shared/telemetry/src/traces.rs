//! Distributed traces, sent over OTLP to an OpenTelemetry collector if one is configured.
//!
//! Without a collector, a [`Tracer`] is empty and makes no spans. Only this module knows OpenTelemetry.
//! A span begins when it is made and ends when it is dropped.

mod collector;
mod config;
mod span;
#[cfg(test)]
mod tests;
mod tracer;

pub use config::TracesConfig;
pub use opentelemetry::trace::SpanKind;
pub use span::{Span, TraceContext};
pub use tracer::{TRACEPARENT, Tracer};
