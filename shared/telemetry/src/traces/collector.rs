//! The way to the collector: one short connection for each batch of spans. Says once that spans
//! cannot be sent, and once that they can again, instead of for each batch.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

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

/// How long a collector may take for one batch.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The most that is read of its answer, which says little or nothing.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

pub(super) struct Collector {
    executor: Handle,
    /// Where its URL says https.
    tls: Option<TlsConnector>,
    failing: AtomicBool,
}

impl fmt::Debug for Collector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Collector").finish_non_exhaustive()
    }
}

impl Collector {
    pub(super) fn new(url: &CollectorUrl, executor: Handle) -> anyhow::Result<Self> {
        let tls = if url.is_https() { Some(tls()?) } else { None };
        Ok(Self { executor, tls, failing: AtomicBool::new(false) })
    }

    fn note(&self, answer: &anyhow::Result<Response<Bytes>>) {
        let trouble = match answer {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("the collector answered {}", response.status())),
            Err(error) => Some(format!("{error:#}")),
        };
        let failed_before = self.failing.swap(trouble.is_some(), Ordering::Relaxed);
        match trouble {
            Some(error) if !failed_before => tracing::warn!(error, "spans cannot be sent"),
            None if failed_before => tracing::info!("spans are sent again"),
            _ => {}
        }
    }
}

#[async_trait::async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        // The SDK sends from a thread of its own, on which neither the runtime's sockets nor its
        // clock can be used.
        let tls = self.tls.clone();
        let sending = async { timeout(ANSWER_TIMEOUT, send(request, tls)).await };
        let answer = match self.executor.spawn(sending).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(anyhow::anyhow!("the collector did not answer in time")),
            Err(_) => Err(anyhow::anyhow!("the service is stopping")),
        };
        self.note(&answer);
        answer.map_err(HttpError::from)
    }
}

/// Trusts what the system trusts, or what `SSL_CERT_FILE` names, like the connections to the broker.
fn tls() -> anyhow::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
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
    let authority = request.uri().authority().context("a URL without a host")?.clone();
    // Brackets are how a URL writes IPv6 addresses.
    let host = authority.host().trim_matches(['[', ']']);
    let port = authority.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
    let stream =
        TcpStream::connect((host, port)).await.context("cannot connect to the collector")?;
    match tls {
        None => exchange(stream, &authority, request).await,
        Some(tls) => {
            let name = ServerName::try_from(host.to_owned())?;
            let stream = tls.connect(name, stream).await.context("no TLS with the collector")?;
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
    let path = request.uri().path_and_query().context("a URL without a path")?.clone();
    *request.uri_mut() = path.into();
    request.headers_mut().insert(header::HOST, HeaderValue::from_str(authority.as_str())?);
    let answer = sender.send_request(request.map(Full::new)).await?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, MAX_ANSWER_BYTES)
        .collect()
        .await
        .map_err(|error| anyhow::anyhow!("the collector's answer cannot be read: {error}"))?;
    Ok(Response::from_parts(head, body.to_bytes()))
}
