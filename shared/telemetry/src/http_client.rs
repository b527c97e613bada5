//! The HTTP client of the services: one short connection for each request, without redirects.
//!
//! For what a service seldom asks of others: a collector takes spans, an issuer has keys. RabbitMQ, MongoDB and what the
//! gateway passes on have their own.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header, uri::Authority};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};
use tokio_util::task::AbortOnDropHandle;

/// Maximum duration of a request, from connecting to the end of the response.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Maximum size of a response.
pub const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// Sends requests to URLs with either `http` or `https`. Cheap to clone.
#[derive(Clone)]
pub struct HttpClient {
    /// Present for https.
    tls: Option<TlsConnector>,
}

impl HttpClient {
    /// Makes a client. For https, it trusts the [authorities](crate::authorities) of this moment.
    pub fn new(is_https: bool) -> anyhow::Result<Self> {
        let tls = if is_https { Some(tls()?) } else { None };
        Ok(Self { tls })
    }

    /// Sends a request, whose URI must be absolute, and returns the response, whatever its status. Fails if it takes more
    /// than 2 s or 64 KiB. Must be called in a tokio runtime.
    pub async fn send(&self, request: Request<Bytes>) -> anyhow::Result<Response<Bytes>> {
        timeout(TIMEOUT, self.exchange(request)).await.unwrap_or_else(|_| {
            Err(anyhow::anyhow!("the response did not arrive within {} s", TIMEOUT.as_secs()))
        })
    }

    async fn exchange(&self, request: Request<Bytes>) -> anyhow::Result<Response<Bytes>> {
        let authority = request.uri().authority().context("the URL has no host")?.clone();
        // URLs write IPv6 addresses in brackets.
        let host = authority.host().trim_matches(['[', ']']);
        let port = authority.port_u16().unwrap_or(if self.tls.is_some() { 443 } else { 80 });
        let stream = TcpStream::connect((host, port))
            .await
            .with_context(|| format!("cannot connect to {authority}"))?;
        match &self.tls {
            None => exchange(stream, &authority, request).await,
            Some(tls) => {
                let name = ServerName::try_from(host.to_owned())?;
                let stream = tls
                    .connect(name, stream)
                    .await
                    .with_context(|| format!("the TLS handshake with {authority} failed"))?;
                exchange(stream, &authority, request).await
            }
        }
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
        .map_err(|error| anyhow::anyhow!("cannot read the response: {error}"))?;
    Ok(Response::from_parts(head, body.to_bytes()))
}
