//! The HTTP client of the exporter: one short connection for each batch of spans.
//!
//! By hand, because the exporter's own clients either bring a second HTTP client with a runtime and
//! a thread (blocking reqwest) or need a tokio runtime, which the SDK's thread has not.

use std::{fmt, sync::Arc, time::Duration};

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header, uri::Authority};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use opentelemetry_http::{HttpClient, HttpError};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    runtime::Handle,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};
use tokio_util::task::AbortOnDropHandle;

use super::config::CollectorUrl;
use crate::OutageLog;

/// Maximum duration of the export of one batch.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(2);

/// Maximum size of the collector's response, which normally is almost empty.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;

pub(super) struct Collector {
    runtime: Handle,
    /// Present for an https URL.
    tls: Option<TlsConnector>,
    outage: OutageLog,
}

impl fmt::Debug for Collector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Collector").finish_non_exhaustive()
    }
}

impl Collector {
    pub(super) fn new(url: &CollectorUrl, runtime: Handle) -> anyhow::Result<Self> {
        let tls = if url.is_https() { Some(tls()?) } else { None };
        let outage = OutageLog::new("send spans to OTEL_EXPORTER_OTLP_ENDPOINT");
        Ok(Self { runtime, tls, outage })
    }

    /// Logs an outage of the collector.
    fn log(&self, result: &anyhow::Result<Response<Bytes>>) {
        match result {
            Ok(response) if response.status().is_success() => {
                self.outage.succeeded();
            }
            Ok(response) => {
                let status = response.status();
                let error = anyhow::anyhow!("the collector's response was {status}");
                self.outage.failed(error.as_ref());
            }
            Err(error) => self.outage.failed(error.as_ref()),
        }
    }
}

#[async_trait::async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        // The SDK exports from a thread of its own, on which the runtime's sockets and timers cannot
        // be used.
        let tls = self.tls.clone();
        let sending = async { timeout(EXPORT_TIMEOUT, send(request, tls)).await };
        let result = match self.runtime.spawn(sending).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(anyhow::anyhow!("the collector did not respond in time")),
            Err(_) => Err(anyhow::anyhow!("the service is stopping")),
        };
        self.log(&result);
        result.map_err(HttpError::from)
    }
}

/// Trusts the system's certificates or those in `SSL_CERT_FILE`, as the connections to the broker do.
fn tls() -> anyhow::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(crate::authorities::load());
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn send(
    request: Request<Bytes>,
    tls: Option<TlsConnector>,
) -> anyhow::Result<Response<Bytes>> {
    let authority = request.uri().authority().context("the URL has no host")?.clone();
    // URLs write IPv6 addresses in brackets.
    let host = authority.host().trim_matches(['[', ']']);
    let port = authority.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
    let stream =
        TcpStream::connect((host, port)).await.context("cannot connect to the collector")?;
    match tls {
        None => exchange(stream, &authority, request).await,
        Some(tls) => {
            let name = ServerName::try_from(host.to_owned())?;
            let stream = tls
                .connect(name, stream)
                .await
                .context("the TLS handshake with the collector failed")?;
            exchange(stream, &authority, request).await
        }
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    authority: &Authority,
    mut request: Request<Bytes>,
) -> anyhow::Result<Response<Bytes>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let path = request.uri().path_and_query().context("the URL has no path")?.clone();
    *request.uri_mut() = path.into();
    request.headers_mut().insert(header::HOST, HeaderValue::from_str(authority.as_str())?);
    let (head, body) = sender.send_request(request.map(Full::new)).await?.into_parts();
    let body = Limited::new(body, MAX_RESPONSE_BYTES)
        .collect()
        .await
        .map_err(|error| anyhow::anyhow!("cannot read the collector's response: {error}"))?;
    Ok(Response::from_parts(head, body.to_bytes()))
}
