//! The `AsyncAPI` document: messages, limits and close codes of the WebSocket.

mod messages;

use std::{collections::BTreeMap, sync::LazyLock};

use bytes::Bytes;
use contracts::{Event, Message};
use http::{HeaderValue, Method, Response, header};
use serde_json::{Value, json};
use service::http::{Body, body, preconditions};
use utoipa::{PartialSchema, ToSchema};

use messages::{authenticate, messages, references};

use super::{
    close_reason::CloseReason,
    deadlines::Timeouts,
    session::{MAX_MESSAGE_BYTES, MAX_TOKEN_MESSAGE_BYTES},
};
use crate::fan_out::paced_stream::READ_AT_A_TIME;

const PATH: &str = "/asyncapi.json";

/// The document as it is served.
static JSON: LazyLock<Bytes> = LazyLock::new(|| document().to_string().into());

static ETAG: LazyLock<HeaderValue> = LazyLock::new(|| preconditions::tag_of(&JSON));

/// Returns the route of `path` if it is the description's.
pub(super) fn route(path: &str) -> Option<&'static str> {
    (path == PATH).then_some(PATH)
}

/// Returns the response to a request for the description, `None` to any other.
pub(super) fn respond(method: &Method, path: &str) -> Option<Response<Body>> {
    if path != PATH || !matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    let mut response = Response::new(body::full(JSON.clone()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::ETAG, ETAG.clone());
    // Tools on pages of any origin may read it.
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    Some(response)
}

/// Returns the document.
pub(crate) fn document() -> Value {
    let mut schemas = vec![
        (Message::name().into_owned(), Message::schema()),
        (Event::name().into_owned(), Event::schema()),
    ];
    Message::schemas(&mut schemas);
    Event::schemas(&mut schemas);
    let schemas: BTreeMap<_, _> = schemas.into_iter().collect();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Messages API: WebSockets",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The broadcast: each second, a message sampled at random from the stored ones goes to \
                            every subscriber. Event streams: each change of a user's messages goes to those who follow \
                            that user, in order and without a gap.",
            "license": { "name": env!("CARGO_PKG_LICENSE") },
        },
        "defaultContentType": "application/json",
        "servers": {
            "broadcaster": {
                "host": "{host}",
                "protocol": "ws",
                "description": "A broadcaster. The gateway tunnels its own /api/chat and /api/events to it.",
                "variables": { "host": { "default": "localhost:8001" } },
                "security": [{ "$ref": "#/components/securitySchemes/token" }],
            },
        },
        "channels": channels(),
        "operations": {
            "broadcast": {
                "action": "send",
                "title": "A random message",
                "summary": "One text frame each second, if any message is stored.",
                "channel": { "$ref": "#/channels/chat" },
                "messages": [{ "$ref": "#/channels/chat/messages/message" }],
            },
            "authenticateForBroadcast": authenticate("chat"),
            "authenticateForEvents": authenticate("events"),
            "follow": {
                "action": "send",
                "title": "A change of a message",
                "summary": "One text frame for each event, and for where the stream is.",
                "channel": { "$ref": "#/channels/events" },
                "messages": [
                    { "$ref": "#/channels/events/messages/event" },
                    { "$ref": "#/channels/events/messages/ready" },
                    { "$ref": "#/channels/events/messages/reset" },
                    { "$ref": "#/channels/events/messages/position" },
                ],
            },
        },
        "components": {
            "messages": messages(&json!(schemas["Message"])["examples"][0]),
            "schemas": schemas,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": TOKENS,
                },
            },
        },
    })
}

fn channels() -> Value {
    json!({
        "chat": {
            "address": "/api/chat",
            "title": "The broadcast",
            "description": channel(&Timeouts::default()),
            "servers": [{ "$ref": "#/servers/broadcaster" }],
            "messages": references(&["message"]),
            "bindings": { "ws": { "method": "GET", "bindingVersion": "0.1.0" } },
            "x-close-codes": close_codes(CloseReason::of_broadcast),
        },
        "events": {
            "address": "/api/events",
            "title": "Events of a user",
            "description": EVENTS,
            "servers": [{ "$ref": "#/servers/broadcaster" }],
            "messages": references(&["event", "ready", "reset", "position"]),
            "bindings": { "ws": { "method": "GET", "query": events_query(), "bindingVersion": "0.1.0" } },
            "x-close-codes": close_codes(|_| true),
        },
    })
}

const TOKENS: &str = "Needed where the operators have set AUTH=jwt. A client sends its token in the header Authorization of \
    the handshake; a browser, which cannot, offers the subprotocols messages.v1 and \
    base64url.bearer.authorization.messages.<the token in base64url>, of which the response names the first, or sends the \
    token in its first message within 5 s. A minute before it expires, the server sends the message expiring, and at the \
    end it closes with 4001. Until then, a client can send another token of the same user. No token is taken from a URL.";

const EVENTS: &str = "Follow what happens to a user's messages by connecting; see docs/events.md. Every frame has the \
    position behind it: connect with `after` to resume there, on any replica, for as long as the log of changes is kept \
    (7 days by default). A client that is slow gets everything later. Limits of what clients send, pings and refusals are \
    those of the broadcast; 400 is also the response to a position that is none, and 422 to a query without a user, where \
    the token has none either.";

/// Returns the schema of the query of an event stream.
fn events_query() -> Value {
    json!({
        "type": "object",
        "properties": {
            "user_id": {
                "type": "string",
                "description": "Follow the messages from and to this user. May be left out if the token has a user",
            },
            "all": {
                "type": "boolean",
                "description": "Follow the messages of all users, instead of one. Needs the scope messages:read-all",
            },
            "with": { "type": "string", "description": "Only those from and to this other user" },
            "after": { "type": "string", "description": "Resume at this position; without it, from now on" },
        },
    })
}

fn close_codes(listed: impl Fn(CloseReason) -> bool) -> Vec<Value> {
    CloseReason::ALL.into_iter().filter(|reason| listed(*reason)).map(close_code).collect()
}

fn channel(timeouts: &Timeouts) -> String {
    let (interval, limit) = (timeouts.ping.as_secs(), timeouts.pong.as_secs());
    let rate_kib = READ_AT_A_TIME as u128 * 1000 / timeouts.read_pause.as_millis() / 1024;
    format!(
        "Subscribe by connecting. The server reads and ignores messages of clients, except those with tokens where \
         AUTH=jwt; each may have at most {MAX_MESSAGE_BYTES} bytes, with AUTH=jwt {MAX_TOKEN_MESSAGE_BYTES}. It reads at \
         most {rate_kib} KiB a second, so a client that sends more waits longer for the reply to a ping or a close. The \
         server pings every {interval} s and expects a pong within {limit} s, or later if the pong is queued behind unread \
         data. A client that is slower than the frames receives only the newest one. A client that closes gets its own \
         code back, if it may be sent (RFC 6455, section 7.4). Refused handshakes get problem details (RFC 9457): 400 for \
         a malformed request, one with a body or two different tokens, 401 for a token that is not valid, 403 for a page \
         whose origin is not allowed and for a token that does not allow this, 405 for another method, 415 for a body \
         with a Content-Encoding, 417 for an Expect other than 100-continue, 426 for a request without a WebSocket \
         upgrade (version 13), 429 at the limit of subscribers from one address, of those from there that wait for their \
         tokens, of requests (RATE_LIMIT_READS) and of invalid tokens, 501 for a Transfer-Encoding other than chunked, \
         503 at the limit of all subscribers and of all that wait for their tokens, while tokens cannot be verified, and \
         while the server stops; 429 and 503 have Retry-After."
    )
}

fn close_code(reason: CloseReason) -> Value {
    let Timeouts { pong, send, .. } = Timeouts::default();
    let description = match reason {
        CloseReason::Stopping => {
            "The broadcaster, or the gateway in front of it, stops. Connect again after a random delay."
        }
        CloseReason::ProtocolError => {
            "A frame violates RFC 6455, or a close frame has a code that must not be sent."
        }
        CloseReason::NotUtf8 => "A text message, or the reason in a close frame, is not UTF-8.",
        CloseReason::TooLarge => "A message or a frame is too large.",
        CloseReason::SlowConsumer => {
            &format!("The client took nothing for {} s while frames were waiting.", send.as_secs())
        }
        CloseReason::PongTimeout => {
            &format!("The client sent no pong within {} s of a ping.", pong.as_secs())
        }
        CloseReason::Aged => {
            "The stream has lasted some 10 minutes. Connect again, so that streams spread over the replicas."
        }
        CloseReason::Displaced => {
            "The user has opened more than are allowed (MAX_STREAMS_PER_USER), and this was the oldest. Subscriptions to the \
             broadcast and event streams are counted apart; the former only with AUTH=jwt."
        }
        CloseReason::Expired => "The token has expired. Connect again with another one.",
        CloseReason::Unauthenticated => {
            "The first message has no valid token, or did not come within 5 s. Get another token."
        }
        CloseReason::Forbidden => "The token does not allow this; the message before says why.",
        CloseReason::Unavailable => {
            "Tokens cannot be verified at present, or too many invalid ones came from this address, or the log cannot be \
             read yet. Connect again later."
        }
    };
    let code = u16::from(reason.code());
    json!({ "code": code, "reason": reason.text(), "description": description })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_names_every_reason_and_no_other() {
        let document = document();
        for (channel, count) in
            [("chat", CloseReason::ALL.len() - 1), ("events", CloseReason::ALL.len())]
        {
            let described = document["channels"][channel]["x-close-codes"].as_array().unwrap();
            assert_eq!(described.len(), count);
            for reason in CloseReason::ALL {
                let known = described.iter().any(|it| {
                    it["code"] == u16::from(reason.code()) && it["reason"] == reason.text()
                });
                assert_eq!(known, channel == "events" || reason.of_broadcast(), "{reason:?}");
            }
        }
    }

    #[test]
    fn references_resolve_and_the_example_is_a_message() {
        let document = document();
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
        let example = &document["components"]["messages"]["message"]["examples"][0]["payload"];
        assert!(serde_json::from_value::<Message>(example.clone()).is_ok());
    }
}
