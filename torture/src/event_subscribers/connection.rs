//! One event stream, over each transport.

use std::{collections::VecDeque, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use contracts::EventPosition;
use reqwest::Method;
use serde_json::Value;
use testkit::{Api, EventSource, ServerSentEvent, Subscriber};

use crate::{
    arrivals::{Arrived, Transport},
    tokens::with_token,
};

/// Silence after which a server-sent stream counts as dead. A live one has a comment every 20 s.
const SSE_SILENCE: Duration = Duration::from_secs(25);

/// Silence after which a WebSocket is pinged.
const WEBSOCKET_SILENCE: Duration = Duration::from_secs(5);

/// Time that a page may take beyond its wait.
const PAGE_SLACK: Duration = Duration::from_secs(6);

/// Type of the event that announces the end of a token. Its subscriber lets it come to that.
const EXPIRING: &str = "expiring";

/// An open stream.
pub(super) enum Connection {
    Sse(Box<EventSource>),
    WebSocket(Box<Subscriber>),
    Poll(Pages),
}

/// Pages that continue each other.
pub(super) struct Pages {
    api: Api,
    query: String,
    /// Seconds for which the service waits for the first event of a page.
    wait_secs: u8,
    after: Option<EventPosition>,
    elements: VecDeque<Arrived>,
}

/// Address and manner of opening a stream.
pub(super) struct Request<'a> {
    pub(super) transport: Transport,
    /// `http://host:port`.
    pub(super) base: &'a str,
    /// Followed user: `user_id=…`.
    pub(super) query: String,
    pub(super) after: Option<EventPosition>,
    /// True if a server-sent stream resumes by `Last-Event-ID`.
    pub(super) by_header: bool,
    pub(super) wait_secs: u8,
    /// The token, where one is required.
    pub(super) token: Option<String>,
}

impl Connection {
    /// Opens a stream. A JSON client only asks for its first page later.
    pub(super) async fn open(request: Request<'_>) -> Result<Self> {
        let Request { transport, base, query, after, by_header, wait_secs, token } = request;
        let authorization = token.as_ref().map(|token| format!("Bearer {token}"));
        let mut headers: Vec<_> =
            authorization.iter().map(|value| ("authorization", value.as_str())).collect();
        let after_text = after.map(|after| after.to_string());
        let path = match &after_text {
            Some(after) if !by_header => format!("/api/events?{query}&after={after}"),
            _ => format!("/api/events?{query}"),
        };
        Ok(match transport {
            Transport::Sse => {
                let header = after_text.as_ref().filter(|_| by_header);
                headers.extend(header.map(|after| ("last-event-id", after.as_str())));
                let source = EventSource::connect_with(&format!("{base}{path}"), &headers).await?;
                Self::Sse(Box::new(source))
            }
            Transport::WebSocket => {
                let url = format!("{base}{path}").replacen("http", "ws", 1);
                Self::WebSocket(Box::new(Subscriber::connect_with(&url, &headers).await?))
            }
            Transport::Poll => {
                let (api, elements) = (with_token(Api::new(base)?, token), VecDeque::new());
                Self::Poll(Pages { api, query, wait_secs, after, elements })
            }
        })
    }

    /// Returns what arrives next; an error where the stream ends. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Arrived> {
        match self {
            Self::Sse(source) => loop {
                let event = source.next_alive(SSE_SILENCE).await?;
                let is_end = ["unavailable", "expired"].contains(&event.name.as_str());
                ensure!(!is_end, "{}: {}", event.name, event.data);
                if event.name != EXPIRING {
                    return Ok(of_server_sent(event));
                }
            },
            Self::WebSocket(socket) => loop {
                let element: Value = socket.next_json_alive(WEBSOCKET_SILENCE).await?;
                if element.get("type").and_then(Value::as_str) != Some(EXPIRING) {
                    return Ok(of_element(element));
                }
            },
            Self::Poll(pages) => pages.next().await,
        }
    }

    /// Returns the last position that came without an event which shows it.
    pub(super) fn last_position(&self) -> Option<EventPosition> {
        match self {
            Self::Sse(source) => source.last_event_id().parse().ok(),
            Self::WebSocket(_) | Self::Poll(_) => None,
        }
    }
}

impl Pages {
    async fn next(&mut self) -> Result<Arrived> {
        loop {
            if let Some(element) = self.elements.pop_front() {
                return Ok(element);
            }
            self.read_page().await?;
        }
    }

    async fn read_page(&mut self) -> Result<()> {
        let mut path = format!("/api/events?{}", self.query);
        // The first page only tells where "now" is.
        let mut wait = Duration::ZERO;
        if let Some(after) = self.after {
            wait = Duration::from_secs(self.wait_secs.into());
            path = format!("{path}&after={after}");
        }
        let call = self.api.request(Method::GET, &path).timeout(wait + PAGE_SLACK);
        let call = call.header("prefer", format!("wait={}", wait.as_secs()));
        let answer = self.api.send(call).await?;
        // The token was good for the pages before.
        ensure!(answer.status != 401, "expired: {}", answer.text);
        if answer.status != 200 {
            bail!("no page: {} {}", answer.status, answer.text);
        }
        let (events, position) = match parsed_page(&answer.text) {
            Ok(page) => page,
            Err(error) => {
                let what = format!("no page of events: {error:#}: {}", answer.text);
                self.elements.push_back(Arrived::Unexpected(what));
                return Ok(());
            }
        };
        if self.after.is_some() {
            self.elements.extend(events.into_iter().map(of_element));
            self.elements.push_back(Arrived::Checkpoint { position });
        } else {
            self.elements.push_back(Arrived::Ready { position, resumed: false });
        }
        self.after = Some(position);
        Ok(())
    }
}

/// Returns true if the service will not let such a stream begin at any later time either.
pub(super) fn is_refused_for_good(error: &anyhow::Error) -> bool {
    let text = format!("{error:#}");
    ["no event stream: 4", "HTTP error: 4", "no page: 4"].iter().any(|it| text.contains(it))
}

/// Reads a server-sent event as the frame of a WebSocket with the same content.
fn of_server_sent(event: ServerSentEvent) -> Arrived {
    let ServerSentEvent { id, name, mut data } = event;
    if let Value::Object(fields) = &mut data {
        if name != "message" {
            fields.insert("type".to_owned(), name.into());
        }
        let told = fields.insert("position".to_owned(), id.clone().into());
        if told.is_some_and(|told| told != id.as_str()) {
            return Arrived::Unexpected(format!("an id that is not the position: {id} {data}"));
        }
    }
    of_element(data)
}

fn parsed_page(text: &str) -> Result<(Vec<Value>, EventPosition)> {
    let page: Value = serde_json::from_str(text)?;
    let events = page.get("events").and_then(Value::as_array).context("no `events`")?;
    let position = page.get("position").and_then(Value::as_str).context("no `position`")?;
    Ok((events.clone(), position.parse()?))
}

fn of_element(element: Value) -> Arrived {
    let text = element.to_string();
    parsed(element)
        .unwrap_or_else(|error| Arrived::Unexpected(format!("no event: {error:#}: {text}")))
}

fn parsed(element: Value) -> Result<Arrived> {
    let text = |name| element.get(name).and_then(Value::as_str).context("a field is missing");
    let position: EventPosition = text("position")?.parse()?;
    Ok(match text("type")? {
        "ready" => {
            let resumed = element.get("resumed").and_then(Value::as_bool);
            Arrived::Ready { position, resumed: resumed.context("no `resumed`")? }
        }
        "reset" => Arrived::Reset { position, reason: text("reason")?.to_owned() },
        "position" => Arrived::Checkpoint { position },
        _ => Arrived::Event { position, event: serde_json::from_value(element)? },
    })
}
