//! A small OpenTelemetry collector: it takes spans by OTLP over HTTP and keeps them for the test.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Result;
use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post, serve::Listener};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value},
    trace::v1::{ResourceSpans, Span, span::SpanKind, status::StatusCode as SpanStatus},
};
use prost::Message;
use testkit::TlsFiles;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
    server::TlsStream,
};

/// A running collector. It is gone when it is dropped.
pub struct Collector {
    endpoint: String,
    spans: Spans,
    serving: JoinHandle<()>,
}

type Spans = Arc<Mutex<Vec<ReceivedSpan>>>;

/// A span as it arrived; ids in hexadecimal digits.
#[derive(Clone, Debug)]
pub struct ReceivedSpan {
    /// The service that sent it.
    pub service: String,
    /// Its name.
    pub name: String,
    /// The trace it belongs to.
    pub trace_id: String,
    /// Its own id.
    pub id: String,
    /// The id of the span above it; empty for a root.
    pub parent: String,
    /// Its kind.
    pub kind: SpanKind,
    /// Start and end, in nanoseconds since 1970.
    pub times: (u64, u64),
    /// Its attributes, as text.
    pub attributes: BTreeMap<String, String>,
    /// True if its status is an error.
    pub failed: bool,
}

impl Collector {
    /// Starts one on a free port.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        Ok(Self::serve(listener, endpoint))
    }

    /// Starts one that speaks TLS.
    pub async fn start_with_tls(files: &TlsFiles) -> Result<Self> {
        let certificates = CertificateDer::pem_file_iter(&files.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&files.key)?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(certificates.collect::<Result<_, _>>()?, key)?;
        let plain = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("https://{}", plain.local_addr()?);
        let tls = TlsAcceptor::from(Arc::new(config));
        Ok(Self::serve(TlsListener { plain, tls }, endpoint))
    }

    fn serve<L>(listener: L, endpoint: String) -> Self
    where
        L: Listener<Addr: Debug>,
    {
        let spans = Spans::default();
        let router =
            Router::new().route("/v1/traces", post(receive)).with_state(Arc::clone(&spans));
        let serving = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                eprintln!("the collector has ended: {error}");
            }
        });
        Self { endpoint, spans, serving }
    }

    /// Returns the value of `OTEL_EXPORTER_OTLP_ENDPOINT`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The spans of one trace that have arrived, in the order in which they began.
    #[must_use]
    pub fn trace(&self, trace_id: &str) -> Vec<ReceivedSpan> {
        let mut spans = self.spans();
        spans.retain(|span| span.trace_id == trace_id);
        spans.sort_by_key(|span| span.times.0);
        spans
    }

    /// All spans that have arrived.
    #[must_use]
    pub fn spans(&self) -> Vec<ReceivedSpan> {
        lock(&self.spans).clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Takes connections on which a TLS handshake was done.
struct TlsListener {
    plain: TcpListener,
    tls: TlsAcceptor,
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, peer) = Listener::accept(&mut self.plain).await;
            match self.tls.accept(stream).await {
                Ok(stream) => return (stream, peer),
                Err(error) => eprintln!("no TLS with {peer}: {error}"),
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.plain.local_addr()
    }
}

async fn receive(State(spans): State<Spans>, body: Bytes) -> StatusCode {
    match ExportTraceServiceRequest::decode(body) {
        Ok(request) => {
            lock(&spans).extend(request.resource_spans.into_iter().flat_map(read));
            StatusCode::OK
        }
        Err(error) => {
            eprintln!("what a service sent cannot be read: {error}");
            StatusCode::BAD_REQUEST
        }
    }
}

fn read(resource: ResourceSpans) -> impl Iterator<Item = ReceivedSpan> {
    let attributes = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
    let service = texts(attributes).remove("service.name").unwrap_or_default();
    let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
    spans.map(move |span| ReceivedSpan {
        service: service.clone(),
        kind: span.kind(),
        failed: failed(&span),
        name: span.name,
        trace_id: hexadecimal(&span.trace_id),
        id: hexadecimal(&span.span_id),
        parent: hexadecimal(&span.parent_span_id),
        times: (span.start_time_unix_nano, span.end_time_unix_nano),
        attributes: texts(span.attributes),
    })
}

fn failed(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code() == SpanStatus::Error)
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    attributes.into_iter().map(|attribute| (attribute.key, text(attribute.value))).collect()
}

fn text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(any_value::Value::StringValue(text)) => text,
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        Some(any_value::Value::BoolValue(yes)) => yes.to_string(),
        other => format!("{other:?}"),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

fn lock(spans: &Spans) -> MutexGuard<'_, Vec<ReceivedSpan>> {
    spans.lock().unwrap_or_else(PoisonError::into_inner)
}
