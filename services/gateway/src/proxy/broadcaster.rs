//! The broadcaster as the gateway reaches it.

use axum::{body::Bytes, extract::Request, http::Uri};
use http_body_util::Empty;
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;
use url::{Position, Url};

use super::headers;

/// Buffer for the head of the broadcaster's response and for parts of its body, the smallest that hyper allows.
const BUFFER_BYTES: usize = 8 * 1024;

/// Paths with which `BROADCASTER_URL` may end.
const PATHS: [&str; 2] = ["/api/chat", "/api/events"];

/// The broadcaster's address.
pub(super) struct Broadcaster {
    /// Host and port.
    address: String,
    /// The same as they stand in its URL, where the default port is left out. Its `Host`.
    authority: String,
    /// Prefix of each path there.
    base: String,
    /// True with `AUTH=jwt`.
    is_auth_on: bool,
}

/// A connection for one request, with the task that drives it.
pub(super) struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    task: AbortOnDropHandle<()>,
}

/// The broadcaster's response, with the task that drives its connection.
pub(super) struct Exchange {
    pub(super) response: hyper::Response<Incoming>,
    pub(super) connection: AbortOnDropHandle<()>,
}

impl Broadcaster {
    pub(super) fn new(url: &Url, is_auth_on: bool) -> Self {
        let port = url.port_or_known_default().unwrap_or(80);
        let path = url.path().trim_end_matches('/');
        let base = PATHS.iter().find_map(|known| path.strip_suffix(known)).unwrap_or(path);
        Self {
            address: format!("{}:{port}", url.host_str().unwrap_or_default()),
            authority: url[Position::BeforeHost..Position::AfterPort].to_owned(),
            base: base.to_owned(),
            is_auth_on,
        }
    }

    /// Returns the request that the broadcaster gets for a client's, which has no body.
    pub(super) fn request(
        &self,
        request: &Request,
    ) -> anyhow::Result<hyper::Request<Empty<Bytes>>> {
        let mut passed_on = hyper::Request::new(Empty::new());
        passed_on.method_mut().clone_from(request.method());
        *passed_on.uri_mut() = self.target(request.uri()).parse::<Uri>()?;
        *passed_on.headers_mut() = headers::request(request, &self.authority, self.is_auth_on)?;
        Ok(passed_on)
    }

    /// Connects.
    pub(super) async fn connect(&self) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let mut builder = http1::Builder::new();
        builder.max_buf_size(BUFFER_BYTES);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to the broadcaster broke");
            }
        }));
        Ok(Connection { sender, task })
    }

    fn target(&self, uri: &Uri) -> String {
        let base = &self.base;
        uri.path_and_query().map_or_else(|| base.clone(), |rest| format!("{base}{rest}"))
    }
}

impl Connection {
    /// Sends the request, and waits for the head of its response.
    pub(super) async fn send(
        mut self,
        request: hyper::Request<Empty<Bytes>>,
    ) -> anyhow::Result<Exchange> {
        let response = self.sender.send_request(request).await?;
        Ok(Exchange { response, connection: self.task })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_broadcaster_may_be_behind_a_path_or_on_ipv6() {
        let broadcaster = |url: &str| Broadcaster::new(&url.parse().unwrap(), false);
        let target =
            |url: &str, target: &'static str| broadcaster(url).target(&Uri::from_static(target));
        let proxied = "http://proxy/broadcaster/";
        assert_eq!(broadcaster(proxied).address, "proxy:80");
        assert_eq!(
            target(proxied, "/api/events?after=A%20b"),
            "/broadcaster/api/events?after=A%20b"
        );
        assert_eq!(target("http://host:8001/api/chat", "http://gateway/api/events"), "/api/events");
        assert_eq!(target("http://host/api/events/", "/api/chat?a"), "/api/chat?a");
        let ipv6 = broadcaster("http://[::1]:8001");
        assert_eq!((ipv6.address.as_str(), ipv6.authority.as_str()), ("[::1]:8001", "[::1]:8001"));
    }
}
