//! The tracer of a service: makes spans and exports them.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use contracts::TraceParent;
use http::HeaderMap;
use opentelemetry::{
    KeyValue,
    trace::{SpanKind, TracerProvider as _},
};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{BatchSpanProcessor, SdkTracer, SdkTracerProvider},
};

use super::{collector::Collector, config::TracesConfig, span::Span};

/// Header with the caller's position in its trace (W3C's Trace Context).
pub const TRACEPARENT: http::HeaderName = http::HeaderName::from_static("traceparent");

/// Maximum duration of an export, including its retries.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum duration of the last export, when the service stops.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Makes spans if a collector is configured. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Tracer(Option<Exporting>);

#[derive(Clone, Debug)]
struct Exporting {
    tracer: Arc<SdkTracer>,
    provider: SdkTracerProvider,
}

impl Tracer {
    /// Starts exporting spans if a collector is configured. Must be called in a tokio runtime.
    pub fn start(config: &TracesConfig, service: &'static str) -> anyhow::Result<Self> {
        let Some(collector) = config.collector() else {
            return Ok(Self(None));
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Collector::new(collector, tokio::runtime::Handle::current())?)
            .with_endpoint(collector.traces_url())
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .context("cannot send spans")?;
        let processor =
            BatchSpanProcessor::builder(exporter).with_batch_config(config.batches()).build();
        let resource = Resource::builder()
            .with_service_name(config.service_name().unwrap_or(service).to_owned())
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("host.name", crate::host_name()))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_sampler(config.sampler())
            .with_resource(resource)
            .build();
        tracing::info!(collector = %collector.traces_url(), "sending spans");
        let tracer = Arc::new(provider.tracer(service));
        Ok(Self(Some(Exporting { tracer, provider })))
    }

    /// Returns the span of a request with these headers: a child of its caller's span, or the root of
    /// a new trace. `None` without a collector.
    ///
    /// A `traceparent` that is invalid or repeated is ignored, as the standard requires.
    #[must_use]
    pub fn request(&self, name: impl FnOnce() -> String, headers: &HeaderMap) -> Option<Span> {
        let Exporting { tracer, .. } = self.0.as_ref()?;
        Span::start(tracer, SpanKind::Server, name(), traceparent(headers))
    }

    /// Returns the span of a delivered message, a child of the span that published it. `None` without
    /// such a span, or without a collector.
    #[must_use]
    pub fn message(&self, name: &'static str, parent: Option<TraceParent>) -> Option<Span> {
        let Exporting { tracer, .. } = self.0.as_ref()?;
        Span::start(tracer, SpanKind::Consumer, name, Some(parent?))
    }

    /// Exports the remaining spans and stops, within 2 s.
    pub async fn close(self) {
        let Some(Exporting { provider, .. }) = self.0 else { return };
        // The flush waits for a thread that needs this runtime, so it must not block its threads.
        let flush = move || provider.shutdown_with_timeout(FLUSH_TIMEOUT);
        let flushed = tokio::task::spawn_blocking(flush).await;
        if let Err(error) = flushed.map_err(anyhow::Error::from).and_then(|done| Ok(done?)) {
            tracing::warn!(error = format!("{error:#}"), "the last spans could not be sent");
        }
    }
}

fn traceparent(headers: &HeaderMap) -> Option<TraceParent> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    value.to_str().ok()?.parse().ok()
}
