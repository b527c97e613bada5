//! The way to the collector: one short connection for each batch of spans. Says once that spans
//! cannot be sent, and once that they can again, instead of for each batch.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use opentelemetry_http::{HttpClient, HttpError};
use tokio::{net::TcpStream, runtime::Handle, time::timeout};
use tokio_util::task::AbortOnDropHandle;

/// How long a collector may take for one batch.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The most that is read of its answer, which says little or nothing.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Collector {
    executor: Handle,
    failing: AtomicBool,
}

impl Collector {
    pub(super) fn new(executor: Handle) -> Self {
        Self { executor, failing: AtomicBool::new(false) }
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
        let sending = async { timeout(ANSWER_TIMEOUT, send(request)).await };
        let answer = match self.executor.spawn(sending).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(anyhow::anyhow!("the collector did not answer in time")),
            Err(_) => Err(anyhow::anyhow!("the service is stopping")),
        };
        self.note(&answer);
        answer.map_err(HttpError::from)
    }
}

async fn send(mut request: Request<Bytes>) -> anyhow::Result<Response<Bytes>> {
    let authority = request.uri().authority().context("a URL without a host")?.clone();
    // Brackets are how a URL writes IPv6 addresses.
    let host = authority.host().trim_matches(['[', ']']);
    let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(80)))
        .await
        .context("cannot connect to the collector")?;
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
