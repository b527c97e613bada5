//! The HTTP client of the exporter: one short connection for each batch of spans.
//!
//! By hand, because the exporter's own clients either bring a second HTTP client with a runtime and
//! a thread (blocking reqwest) or need a tokio runtime, which the SDK's thread has not.

use std::fmt;

use bytes::Bytes;
use http::{Request, Response};
use opentelemetry_http::{HttpClient, HttpError};
use tokio::runtime::Handle;

use super::config::CollectorUrl;
use crate::{OutageLog, http_client};

pub(super) struct Collector {
    runtime: Handle,
    client: http_client::HttpClient,
    outage: OutageLog,
}

impl fmt::Debug for Collector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Collector").finish_non_exhaustive()
    }
}

impl Collector {
    pub(super) fn new(url: &CollectorUrl, runtime: Handle) -> anyhow::Result<Self> {
        let client = http_client::HttpClient::new(url.is_https())?;
        let outage = OutageLog::new("send spans to OTEL_EXPORTER_OTLP_ENDPOINT");
        Ok(Self { runtime, client, outage })
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
        let client = self.client.clone();
        let sending = self.runtime.spawn(async move { client.send(request).await });
        let result =
            sending.await.unwrap_or_else(|_| Err(anyhow::anyhow!("the service is stopping")));
        self.log(&result);
        result.map_err(HttpError::from)
    }
}
