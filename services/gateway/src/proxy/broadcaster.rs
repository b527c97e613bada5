//! The broadcaster as the gateway's tunnels reach it.

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;
use url::{Position, Url};

use super::headers;

/// Maximum bytes of a refusal's body.
const MAX_REFUSAL_BYTES: usize = 16 * 1024;

/// Buffer for the head of the broadcaster's response, the smallest that hyper allows.
const HEAD_BYTES: usize = 8 * 1024;

/// The broadcaster's address.
pub(super) struct Broadcaster {
    /// Host and port.
    address: String,
    /// The same as they stand in its URL, where the default port is left out. Its `Host`.
    authority: String,
    path: String,
}

/// The broadcaster's response, with the task that drives its connection.
pub(super) struct Handshake {
    pub(super) response: hyper::Response<Incoming>,
    pub(super) connection: AbortOnDropHandle<()>,
}

impl Broadcaster {
    pub(super) fn new(url: &Url) -> Self {
        let port = url.port_or_known_default().unwrap_or(80);
        let base = url.path().trim_end_matches('/');
        let base = base.strip_suffix("/api/chat").unwrap_or(base);
        Self {
            address: format!("{}:{port}", url.host_str().unwrap_or_default()),
            authority: url[Position::BeforeHost..Position::AfterPort].to_owned(),
            path: format!("{base}/api/chat"),
        }
    }

    /// Returns the handshake that the broadcaster gets for a client's.
    pub(super) fn handshake(
        &self,
        request: &Request,
    ) -> anyhow::Result<hyper::Request<Empty<Bytes>>> {
        let mut handshake = hyper::Request::new(Empty::new());
        *handshake.uri_mut() = self.path_and_query(request).parse::<Uri>()?;
        *handshake.headers_mut() = headers::handshake(request, &self.authority)?;
        Ok(handshake)
    }

    /// Sends a handshake, on a connection of its own.
    pub(super) async fn send(
        &self,
        handshake: hyper::Request<Empty<Bytes>>,
    ) -> anyhow::Result<Handshake> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) =
            http1::Builder::new().max_buf_size(HEAD_BYTES).handshake(TokioIo::new(stream)).await?;
        let connection = AbortOnDropHandle::new(tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to the broadcaster broke");
            }
        }));
        Ok(Handshake { response: sender.send_request(handshake).await?, connection })
    }

    fn path_and_query(&self, request: &Request) -> String {
        match request.uri().query() {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }
}

impl Handshake {
    /// Returns the broadcaster's refusal as a response to the client. Whatever is no problem comes from a proxy or from
    /// another service, and could tell the client of addresses within.
    pub(super) async fn into_refusal(self) -> anyhow::Result<Response> {
        let (parts, body) = self.response.into_parts();
        let content_type = parts.headers.get(header::CONTENT_TYPE);
        let is_problem = content_type.is_some_and(|value| value == "application/problem+json");
        anyhow::ensure!(is_problem, "the response {} is not the broadcaster's", parts.status);
        let body = Limited::new(body, MAX_REFUSAL_BYTES).collect().await;
        let body = body.map_err(anyhow::Error::from_boxed)?.to_bytes();
        let mut response = (parts.status, Body::from(body)).into_response();
        let headers = response.headers_mut();
        headers.remove(header::CONTENT_TYPE);
        for (name, value) in headers::end_to_end(&parts.headers) {
            headers.append(name, value.clone());
        }
        if parts.status == StatusCode::UPGRADE_REQUIRED {
            // A 426 must say what to upgrade to.
            headers::upgrade_to_websocket(headers);
        }
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_broadcaster_may_be_behind_a_path_or_on_ipv6() {
        let broadcaster = |url: &str| Broadcaster::new(&url.parse().unwrap());
        let proxied = broadcaster("http://proxy/broadcaster/");
        assert_eq!(
            (proxied.path.as_str(), proxied.address.as_str()),
            ("/broadcaster/api/chat", "proxy:80")
        );
        assert_eq!(broadcaster("http://host:8001/api/chat").path, "/api/chat");
        let ipv6 = broadcaster("http://[::1]:8001");
        assert_eq!((ipv6.address.as_str(), ipv6.authority.as_str()), ("[::1]:8001", "[::1]:8001"));
    }
}
