//! Sources of keys.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::{Request, header};
use telemetry::http_client::{HttpClient, MAX_RESPONSE_BYTES};
use tokio::io::AsyncReadExt;
use url::Url;

use crate::Secret;

/// Interval at which an issuer is asked for its keys.
const URL_INTERVAL: Duration = Duration::from_mins(5);

/// Interval at which a file is read.
const FILE_INTERVAL: Duration = Duration::from_secs(5);

/// Source of keys.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// An issuer.
    Url(Url),
    /// A file.
    File(PathBuf),
    /// Secrets, the current one first.
    Secrets(Vec<Secret>),
}

/// Reads a key set, again and again.
pub(super) enum Reader {
    Url {
        url: Url,
        client: HttpClient,
    },
    File(PathBuf),
    /// An issuer without a network, whose time a test can set.
    #[cfg(test)]
    Test(super::refresh::tests::Issuer),
}

impl Reader {
    pub(super) fn of_url(url: Url) -> anyhow::Result<Self> {
        let client = HttpClient::new(url.scheme() == "https")?;
        Ok(Self::Url { url, client })
    }

    /// Returns the time from one read to the next.
    pub(super) fn interval(&self) -> Duration {
        match self {
            // Not all services at the same time.
            Self::Url { .. } => URL_INTERVAL.mul_f64(rand::random_range(0.9..1.1)),
            Self::File(_) => FILE_INTERVAL,
            #[cfg(test)]
            Self::Test(_) => URL_INTERVAL,
        }
    }

    /// Returns what is read, for the log.
    pub(super) fn what(&self) -> &'static str {
        match self {
            Self::Url { .. } => "get the keys that verify tokens from AUTH_JWKS_URL",
            Self::File(_) => "read the keys that verify tokens from AUTH_JWKS_FILE",
            #[cfg(test)]
            Self::Test(_) => "ask an issuer",
        }
    }

    pub(super) async fn read(&self) -> anyhow::Result<Bytes> {
        match self {
            Self::Url { url, client } => {
                let request = Request::get(url.as_str())
                    .header(header::ACCEPT, "application/jwk-set+json, application/json");
                let response = client.send(request.body(Bytes::new())?).await?;
                let status = response.status();
                ensure!(status.is_success(), "the response was {status}");
                Ok(response.into_body())
            }
            // By its path each time: Kubernetes replaces the file by another one.
            Self::File(path) => {
                let file = tokio::fs::File::open(path).await;
                let file = file.with_context(|| format!("cannot open {}", path.display()))?;
                let mut bytes = Vec::new();
                let limit = MAX_RESPONSE_BYTES as u64;
                file.take(limit + 1).read_to_end(&mut bytes).await?;
                ensure!(bytes.len() as u64 <= limit, "{} is larger than 64 KiB", path.display());
                Ok(bytes.into())
            }
            #[cfg(test)]
            Self::Test(issuer) => issuer.read().await,
        }
    }
}
