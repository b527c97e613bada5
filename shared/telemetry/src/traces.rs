//! Distributed traces, sent to an OpenTelemetry collector over OTLP where one is configured.
//!
//! Without one a service holds a [`Tracer`] that is empty: it asks that for a request's span, gets
//! none, and nothing further is done. Nothing else in the process knows OpenTelemetry: spans are
//! made here, begin when they are made and end when they are dropped.

mod collector;
mod config;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use contracts::{TraceId, TraceParent};
use http::HeaderMap;
use opentelemetry::{
    Context, KeyValue, Value,
    trace::{
        self, Span as _, SpanContext, SpanId, Status, TraceContextExt, TraceFlags, TraceState,
        Tracer as _, TracerProvider as _,
    },
};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider},
};

use collector::Collector;
pub use config::TracesConfig;

/// The header that names the trace a request belongs to (W3C's Trace Context).
pub const TRACEPARENT: http::HeaderName = http::HeaderName::from_static("traceparent");

/// Spans that wait to be sent; more are dropped. They are sent by 512, every 5 s at the latest.
const MAX_WAITING_SPANS: usize = 8192;

/// How long sending spans may take, its repetitions included.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a service that stops waits for its last spans to be sent.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Makes spans, or none. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Tracer(Option<Arc<Exporting>>);

#[derive(Debug)]
struct Exporting {
    tracer: SdkTracer,
    provider: SdkTracerProvider,
}

/// What a span is to what called it, and to what it calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// A request that is answered here.
    Server,
    /// A request to somebody else.
    Client,
    /// A message that is published.
    Producer,
    /// A message that is worked on.
    Consumer,
}

/// A place in a recorded trace, below which spans can be made. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TraceContext {
    exporting: Arc<Exporting>,
    parent: TraceParent,
}

/// A span. It ends when it is dropped.
#[derive(Debug)]
pub struct Span {
    span: Box<opentelemetry_sdk::trace::Span>,
    /// The place below this span.
    trace: TraceContext,
}

impl Tracer {
    /// Starts sending spans where a collector is configured. Needs the async runtime.
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
        let batches = BatchConfigBuilder::default().with_max_queue_size(MAX_WAITING_SPANS).build();
        let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
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
        let tracer = provider.tracer(service);
        Ok(Self(Some(Arc::new(Exporting { tracer, provider }))))
    }

    /// Whether spans are made.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The span of a request that arrived with these headers: in its caller's trace, or the root of
    /// one of its own. `None` where nothing is configured.
    ///
    /// A `traceparent` that can't be read is none, and so are two of them, as the standard says.
    #[must_use]
    pub fn request(&self, name: impl FnOnce() -> String, headers: &HeaderMap) -> Option<Span> {
        let exporting = self.0.as_ref()?;
        let parent = traceparent(headers);
        Span::start(exporting, SpanKind::Server, name(), parent)
    }

    /// The span of a message that says which span published it. `None` where it says nothing or
    /// nothing is configured.
    #[must_use]
    pub fn message(&self, name: &'static str, parent: Option<TraceParent>) -> Option<Span> {
        let (exporting, parent) = (self.0.as_ref()?, parent?);
        Span::start(exporting, SpanKind::Consumer, name, Some(parent))
    }

    /// Sends what is left and stops. Ends within 2 s, whether that was possible or not.
    pub async fn close(self) {
        let Some(exporting) = self.0 else { return };
        // It waits for a thread that waits for this runtime, whose threads must stay free.
        let provider = exporting.provider.clone();
        let flush = move || provider.shutdown_with_timeout(FLUSH_TIMEOUT);
        match tokio::task::spawn_blocking(flush).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the last spans were not sent"),
            Err(error) => tracing::warn!(%error, "the last spans were not sent"),
        }
    }
}

impl TraceContext {
    /// A new span at this place; `None` once spans are sent no more.
    #[must_use]
    pub fn span(&self, kind: SpanKind, name: &'static str) -> Option<Span> {
        let Self { exporting, parent } = self;
        Span::start(exporting, kind, name, Some(*parent))
    }
}

impl Span {
    fn start(
        exporting: &Arc<Exporting>,
        kind: SpanKind,
        name: impl Into<std::borrow::Cow<'static, str>>,
        parent: Option<TraceParent>,
    ) -> Option<Self> {
        let tracer = &exporting.tracer;
        let context = parent.map_or_else(Context::new, |parent| {
            Context::new().with_remote_span_context(span_context(parent))
        });
        let builder = tracer.span_builder(name).with_kind(kind.into());
        let span = Box::new(builder.start_with_context(tracer, &context));
        let made = span.span_context();
        let (trace_id, span_id) = (made.trace_id().to_bytes(), made.span_id().to_bytes());
        // The SDK gives no ids once it has been shut down.
        let parent = TraceParent::new(trace_id, span_id, made.trace_flags().to_u8())?;
        Some(Self { span, trace: TraceContext { exporting: Arc::clone(exporting), parent } })
    }

    /// The trace's id, recorded or not.
    #[must_use]
    pub fn trace_id(&self) -> TraceId {
        self.trace.parent.trace_id()
    }

    /// The place below this span, where the trace is recorded.
    #[must_use]
    pub fn trace(&self) -> Option<&TraceContext> {
        self.span.is_recording().then_some(&self.trace)
    }

    /// What to send along with a message that this span publishes, where the trace is recorded.
    #[must_use]
    pub fn traceparent(&self) -> Option<TraceParent> {
        self.trace().map(|trace| trace.parent)
    }

    /// Notes something about the span, by the name that OpenTelemetry's conventions give it. The
    /// value is not made where the trace is not recorded.
    pub fn set_attribute<V: Into<Value>>(&mut self, key: &'static str, value: impl FnOnce() -> V) {
        if self.span.is_recording() {
            self.span.set_attribute(KeyValue::new(key, value()));
        }
    }

    /// Notes that it failed.
    pub fn set_error(&mut self, reason: impl FnOnce() -> String) {
        if self.span.is_recording() {
            self.span.set_status(Status::error(reason()));
        }
    }
}

impl From<SpanKind> for trace::SpanKind {
    fn from(kind: SpanKind) -> Self {
        match kind {
            SpanKind::Server => Self::Server,
            SpanKind::Client => Self::Client,
            SpanKind::Producer => Self::Producer,
            SpanKind::Consumer => Self::Consumer,
        }
    }
}

/// The caller's place in its trace, if it says one.
fn traceparent(headers: &HeaderMap) -> Option<TraceParent> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    value.to_str().ok()?.parse().ok()
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

#[cfg(test)]
mod tests {
    use clap::Parser;
    use http::HeaderValue;

    use super::*;

    const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

    #[derive(Parser)]
    struct Settings {
        #[command(flatten)]
        traces: TracesConfig,
    }

    /// A tracer for a collector that is not there.
    fn traces(arguments: &[&str]) -> Tracer {
        let to_nobody = ["service", "--otlp-endpoint", "http://127.0.0.1:1"];
        let settings = Settings::parse_from([&to_nobody, arguments].concat());
        Tracer::start(&settings.traces, "service").unwrap()
    }

    fn headers(traceparents: &[&'static str]) -> HeaderMap {
        let values = traceparents.iter().map(|value| HeaderValue::from_static(value));
        values.map(|value| (TRACEPARENT, value)).collect()
    }

    /// Whether a request with these headers is recorded, and whether in its caller's trace.
    fn recorded(traces: &Tracer, traceparents: &[&'static str]) -> (bool, bool) {
        let span = traces.request(|| "request".to_owned(), &headers(traceparents)).unwrap();
        let callers = span.trace_id().to_string() == SAMPLED[3..35];
        (span.trace().is_some(), callers)
    }

    #[tokio::test]
    async fn a_request_is_recorded_as_its_caller_does_or_as_configured() {
        let default = traces(&[]);
        assert_eq!(recorded(&default, &[SAMPLED]), (true, true));
        assert_eq!(recorded(&default, &[UNSAMPLED]), (false, true));
        assert_eq!(recorded(&default, &[]), (true, false));
        assert_eq!(recorded(&default, &["garbage"]), (true, false));
        assert_eq!(recorded(&default, &[SAMPLED, SAMPLED]), (true, false));
        let asked_only = traces(&["--traces-sampler", "parentbased_always_off"]);
        assert_eq!(recorded(&asked_only, &[SAMPLED]), (true, true));
        assert_eq!(recorded(&asked_only, &[]), (false, false));
        let none = traces(&["--traces-sampler", "traceidratio", "--traces-sampler-arg", "0"]);
        assert_eq!(recorded(&none, &[SAMPLED]), (false, true));
        for traces in [default, asked_only, none] {
            traces.close().await;
        }
    }

    #[tokio::test]
    async fn spans_are_made_below_what_is_recorded_and_while_they_can_be_sent() {
        let traces = traces(&[]);
        let parent = SAMPLED.parse().unwrap();
        let span = traces.message("process", Some(parent)).unwrap();
        let place = span.trace().unwrap().clone();
        let below = place.span(SpanKind::Client, "insert").unwrap();
        assert_eq!(below.trace_id(), parent.trace_id());
        assert_ne!(below.traceparent(), span.traceparent());
        assert!(traces.message("process", None).is_none());
        assert!(traces.message("process", UNSAMPLED.parse().ok()).unwrap().trace().is_none());
        traces.clone().close().await;
        assert!(place.span(SpanKind::Client, "too late").is_none());
    }

    #[tokio::test]
    async fn nothing_is_made_where_nothing_is_configured() {
        let settings = Settings::parse_from(["service", "--otlp-endpoint", ""]);
        let traces = Tracer::start(&settings.traces, "service").unwrap();
        assert!(!traces.is_on());
        assert!(traces.request(|| unreachable!(), &headers(&[SAMPLED])).is_none());
        assert!(traces.message("process", SAMPLED.parse().ok()).is_none());
        traces.close().await;
    }
}
