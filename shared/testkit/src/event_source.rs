//! A client of server-sent events (HTML standard, section 9.2) for tests.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Client, Response, header};
use serde_json::Value;
use tokio::time::timeout;

/// Longest wait for the head of the response.
const HEAD_LIMIT: Duration = Duration::from_secs(10);

/// One stream. It does not reconnect by itself, so that a test sees its end.
#[derive(Debug)]
pub struct EventSource {
    response: Response,
    buffer: Vec<u8>,
    last_event_id: String,
    retry: Option<Duration>,
    comments: u64,
}

/// An event that a page would get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSentEvent {
    /// The last event id at that time.
    pub id: String,
    /// `message` unless it has a name.
    pub name: String,
    /// Its data, which is JSON.
    pub data: Value,
}

impl EventSource {
    /// Opens a stream from now on.
    pub async fn connect(url: &str) -> Result<Self> {
        Self::connect_with(url, &[]).await
    }

    /// Opens a stream with headers of the test's own.
    pub async fn connect_with(url: &str, headers: &[(&str, &str)]) -> Result<Self> {
        let client = Client::builder().no_proxy().build()?;
        let mut request = client.get(url).header(header::ACCEPT, "text/event-stream");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = timeout(HEAD_LIMIT, request.send()).await.context("no response")??;
        let content_type = response.headers().get(header::CONTENT_TYPE).cloned();
        if response.status() != 200 || content_type.is_none_or(|it| it != "text/event-stream") {
            bail!("no event stream: {} {}", response.status(), response.text().await?);
        }
        Ok(Self {
            response,
            buffer: Vec::new(),
            last_event_id: String::new(),
            retry: None,
            comments: 0,
        })
    }

    /// The head of the response.
    #[must_use]
    pub fn response(&self) -> &Response {
        &self.response
    }

    /// The id to resume with.
    #[must_use]
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// The time after which a browser would reconnect, if the stream has told.
    #[must_use]
    pub fn retry(&self) -> Option<Duration> {
        self.retry
    }

    /// Number of comments so far.
    #[must_use]
    pub fn comments(&self) -> u64 {
        self.comments
    }

    /// The next event; an error where the stream ends or `within` passes before.
    pub async fn next(&mut self, within: Duration) -> Result<ServerSentEvent> {
        let next = async { self.read().await?.context("the stream has ended") };
        timeout(within, next).await.with_context(|| format!("no event within {within:?}"))?
    }

    /// The next event, however late it comes. An error where the stream ends, or where nothing arrives for so long, not even
    /// a comment. Cancel safe.
    pub async fn next_alive(&mut self, silence: Duration) -> Result<ServerSentEvent> {
        loop {
            if let Some(event) = self.buffered()? {
                return Ok(event);
            }
            let chunk = timeout(silence, self.response.chunk()).await;
            let chunk = chunk.with_context(|| format!("no sign of life within {silence:?}"))??;
            self.buffer.extend_from_slice(&chunk.context("the stream has ended")?);
        }
    }

    /// The data of the next event, which has no name.
    pub async fn next_message(&mut self, within: Duration) -> Result<Value> {
        let event = self.next(within).await?;
        ensure!(event.name == "message", "{event:?}");
        Ok(event.data)
    }

    /// Reads until the stream ends, and returns what came before.
    pub async fn ended(&mut self, within: Duration) -> Result<Vec<ServerSentEvent>> {
        let ended = async {
            let mut events = Vec::new();
            // A connection that breaks ends the stream, too.
            while let Ok(Some(event)) = self.read().await {
                events.push(event);
            }
            events
        };
        timeout(within, ended).await.with_context(|| format!("still open after {within:?}"))
    }

    /// Returns the next event; `None` at the end of the stream. Cancel safe.
    async fn read(&mut self) -> Result<Option<ServerSentEvent>> {
        loop {
            if let Some(event) = self.buffered()? {
                return Ok(Some(event));
            }
            let Some(chunk) = self.response.chunk().await? else { return Ok(None) };
            self.buffer.extend_from_slice(&chunk);
        }
    }

    /// Returns the next event that has arrived as a whole.
    fn buffered(&mut self) -> Result<Option<ServerSentEvent>> {
        while let Some(end) = self.buffer.windows(2).position(|bytes| bytes == b"\n\n") {
            let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
            if let Some(event) = self.parse(std::str::from_utf8(&block)?)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    fn parse(&mut self, block: &str) -> Result<Option<ServerSentEvent>> {
        let (mut name, mut data) = ("message".to_owned(), None);
        for line in block.lines().filter(|line| !line.is_empty()) {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" => self.comments += 1,
                "id" => value.clone_into(&mut self.last_event_id),
                "event" => value.clone_into(&mut name),
                "data" => data = Some(serde_json::from_str(value)?),
                "retry" => self.retry = Some(Duration::from_millis(value.parse()?)),
                other => bail!("unknown field {other} in {block:?}"),
            }
        }
        let id = self.last_event_id.clone();
        Ok(data.map(|data| ServerSentEvent { id, name, data }))
    }
}
