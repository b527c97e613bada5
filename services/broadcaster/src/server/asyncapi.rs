//! The `AsyncAPI` document: messages, limits and close codes of the WebSocket.

use std::{collections::BTreeMap, sync::LazyLock};

use bytes::Bytes;
use contracts::Message;
use http::{HeaderValue, Method, Response, header};
use serde_json::{Value, json};
use service::http::{Body, body, preconditions};
use utoipa::{PartialSchema, ToSchema};

use super::{close_reason::CloseReason, deadlines::Timeouts, session::MAX_MESSAGE_BYTES};
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
    let mut schemas = vec![(Message::name().into_owned(), Message::schema())];
    Message::schemas(&mut schemas);
    let schemas: BTreeMap<_, _> = schemas.into_iter().collect();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Messages API: the broadcast",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Each second, a message sampled at random from the stored ones goes to \
                            every WebSocket subscriber. All subscribers receive the same one.",
            "license": { "name": env!("CARGO_PKG_LICENSE") },
        },
        "defaultContentType": "application/json",
        "servers": {
            "broadcaster": {
                "host": "{host}",
                "protocol": "ws",
                "description": "A broadcaster. The gateway tunnels its own /api/chat to it.",
                "variables": { "host": { "default": "localhost:8001" } },
            },
        },
        "channels": {
            "chat": {
                "address": "/api/chat",
                "title": "The broadcast",
                "description": channel(&Timeouts::default()),
                "servers": [{ "$ref": "#/servers/broadcaster" }],
                "messages": { "message": { "$ref": "#/components/messages/message" } },
                "bindings": { "ws": { "method": "GET", "bindingVersion": "0.1.0" } },
                "x-close-codes": CloseReason::ALL.map(close_code),
            },
        },
        "operations": {
            "broadcast": {
                "action": "send",
                "title": "A random message",
                "summary": "One text frame each second, if any message is stored.",
                "channel": { "$ref": "#/channels/chat" },
                "messages": [{ "$ref": "#/channels/chat/messages/message" }],
            },
        },
        "components": {
            "messages": {
                "message": {
                    "name": "message",
                    "title": "A stored message",
                    "contentType": "application/json",
                    "payload": { "$ref": "#/components/schemas/Message" },
                    "examples": [{ "payload": json!(schemas["Message"])["examples"][0] }],
                },
            },
            "schemas": schemas,
        },
    })
}

fn channel(timeouts: &Timeouts) -> String {
    let (interval, limit) = (timeouts.ping.as_secs(), timeouts.pong.as_secs());
    let rate_kib = READ_AT_A_TIME as u128 * 1000 / timeouts.read_pause.as_millis() / 1024;
    format!(
        "Subscribe by connecting. The server reads and ignores messages of clients; each may have at \
         most {MAX_MESSAGE_BYTES} bytes. It reads at most {rate_kib} KiB a second, so a client that \
         sends more waits longer for the reply to a ping or a close. The server pings every {interval} s \
         and expects a pong within {limit} s, or later if the pong is queued behind unread data. A \
         client that is slower than the frames receives only the newest one. A client that closes gets \
         its own code back, if it may be sent (RFC 6455, section 7.4). Refused handshakes get problem \
         details (RFC 9457): 400 for a malformed request or one with a body, 403 for a page whose origin is \
         not allowed, 405 for another method, 415 for a body with a Content-Encoding, 417 for an Expect \
         other than 100-continue, 426 for a request without a WebSocket upgrade (version 13), 429 at the limit of subscribers from one address, 501 for a Transfer-Encoding other than chunked, 503 at \
         the limit of all subscribers and while the server stops; 429 and 503 have Retry-After."
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
        let described = document["channels"]["chat"]["x-close-codes"].as_array().unwrap();
        for reason in CloseReason::ALL {
            let known = described
                .iter()
                .any(|it| it["code"] == u16::from(reason.code()) && it["reason"] == reason.text());
            assert!(known, "{reason:?}");
        }
        assert_eq!(described.len(), CloseReason::ALL.len());
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
