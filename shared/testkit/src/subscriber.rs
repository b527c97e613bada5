//! A WebSocket client for tests.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::{SinkExt, StreamExt};
use serde::de::DeserializeOwned;
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{
        Bytes, Error, Message,
        client::IntoClientRequest,
        handshake::client::Response,
        http::{HeaderName, HeaderValue},
        protocol::CloseFrame,
    },
};

/// Longest wait for the handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// One WebSocket connection. Pings are answered while it is read.
#[derive(Debug)]
pub struct Subscriber {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    response: Response,
}

impl Subscriber {
    /// Connects to a `ws://` URL.
    pub async fn connect(url: &str) -> Result<Self> {
        Self::connect_with(url, &[]).await
    }

    /// Connects with headers of the test's own. A refused handshake is an error that names the
    /// status; `tokio_tungstenite::tungstenite::Error::Http` can be downcast from it.
    pub async fn connect_with(url: &str, headers: &[(&str, &str)]) -> Result<Self> {
        let mut request = url.into_client_request()?;
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes())?;
            request.headers_mut().insert(name, HeaderValue::from_str(value)?);
        }
        let (socket, response) = timeout(HANDSHAKE_LIMIT, connect_async(request))
            .await
            .with_context(|| format!("no handshake with {url} within {HANDSHAKE_LIMIT:?}"))??;
        Ok(Self { socket, response })
    }

    /// The status of the answer to a handshake: 101, or that of a refusal.
    pub async fn status(url: &str, headers: &[(&str, &str)]) -> Result<u16> {
        match Self::connect_with(url, headers).await {
            Ok(subscriber) => Ok(subscriber.response.status().as_u16()),
            Err(error) => match error.downcast()? {
                Error::Http(response) => Ok(response.status().as_u16()),
                other => Err(other.into()),
            },
        }
    }

    /// The answer to the handshake.
    #[must_use]
    pub fn response(&self) -> &Response {
        &self.response
    }

    /// The next text frame; an error where the connection ends or `within` passes before.
    pub async fn next_text(&mut self, within: Duration) -> Result<String> {
        let next = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Text(text))) => return Ok(text.as_str().to_owned()),
                    Some(Ok(Message::Close(frame))) => bail!("closed by the server: {frame:?}"),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(error.into()),
                    None => bail!("the connection has ended"),
                }
            }
        };
        timeout(within, next).await.with_context(|| format!("no text frame within {within:?}"))?
    }

    /// The next text frame as JSON of any type.
    pub async fn next_json<T: DeserializeOwned>(&mut self, within: Duration) -> Result<T> {
        let text = self.next_text(within).await?;
        serde_json::from_str(&text).with_context(|| format!("an unexpected frame: {text}"))
    }

    /// The next text frame as JSON, however late it comes. An error where the connection ends, or where
    /// a server that was silent for so long does not answer a ping for as long again.
    pub async fn next_json_alive<T: DeserializeOwned>(&mut self, silence: Duration) -> Result<T> {
        let mut asked = false;
        loop {
            match timeout(silence, self.socket.next()).await {
                Ok(Some(Ok(Message::Text(text)))) => {
                    return serde_json::from_str(&text)
                        .with_context(|| format!("an unexpected frame: {text}"));
                }
                Ok(Some(Ok(Message::Close(frame)))) => bail!("closed by the server: {frame:?}"),
                Ok(Some(Ok(_))) => asked = false,
                Ok(Some(Err(error))) => return Err(error.into()),
                Ok(None) => bail!("the connection has ended"),
                Err(_) if asked => bail!("no sign of the server within {silence:?}"),
                Err(_) => {
                    asked = true;
                    let ping = self.send(Message::Ping(Bytes::new()));
                    timeout(silence, ping).await.context("it takes no ping")??;
                }
            }
        }
    }

    /// Reads until the server closes: its close frame, none where the connection just ended.
    pub async fn closed(&mut self, within: Duration) -> Result<Option<CloseFrame>> {
        let closed = async {
            while let Some(Ok(message)) = self.socket.next().await {
                if let Message::Close(frame) = message {
                    return frame;
                }
            }
            None
        };
        timeout(within, closed).await.with_context(|| format!("still open after {within:?}"))
    }

    /// Sends a frame.
    pub async fn send(&mut self, message: Message) -> Result<()> {
        Ok(self.socket.send(message).await?)
    }

    /// Sends a text frame.
    pub async fn send_text(&mut self, text: &str) -> Result<()> {
        self.send(Message::text(text)).await
    }

    /// The socket itself, for what this helper has no word for.
    pub fn socket(&mut self) -> &mut WebSocketStream<MaybeTlsStream<TcpStream>> {
        &mut self.socket
    }
}
