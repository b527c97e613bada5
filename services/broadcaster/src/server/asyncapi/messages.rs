//! The messages of the channels, and the operation by which clients send tokens.

use serde_json::{Map, Value, json};

use crate::events::reset_reason::ResetReason;

/// Returns references to these messages, and to those about tokens, which all channels have.
pub(super) fn references(names: &[&str]) -> Value {
    let all = names.iter().chain(&OF_TOKENS);
    all.map(|name| {
        let reference = json!({ "$ref": format!("#/components/messages/{name}") });
        ((*name).to_owned(), reference)
    })
    .collect::<Map<_, _>>()
    .into()
}

/// Messages about tokens: one of clients, and the replies.
const OF_TOKENS: [&str; 4] = ["auth", "authenticated", "expiring", "refused"];

/// Returns the operation by which a client sends its token.
pub(super) fn authenticate(channel: &str) -> Value {
    let message = |name: &&str| json!({ "$ref": format!("#/channels/{channel}/messages/{name}") });
    let [request, replies @ ..] = &OF_TOKENS;
    json!({
        "action": "receive",
        "title": "A token",
        "summary": "The first token of a client that has sent none in its handshake, or a new one before the old one expires.",
        "channel": { "$ref": format!("#/channels/{channel}") },
        "messages": [message(request)],
        "reply": {
            "channel": { "$ref": format!("#/channels/{channel}") },
            "messages": replies.iter().map(message).collect::<Vec<_>>(),
        },
    })
}

/// Returns the messages about tokens.
fn messages_of_tokens() -> Value {
    let about_token = |kind: &str| {
        json!({
            "type": "object",
            "required": ["type", "expires_at"],
            "properties": {
                "type": { "const": kind },
                "expires_at": { "type": "string", "format": "date-time" },
            },
        })
    };
    json!({
        "auth": {
            "name": "auth",
            "title": "A token",
            "contentType": "application/json",
            "payload": {
                "type": "object",
                "required": ["op", "token"],
                "properties": { "op": { "const": "auth" }, "token": { "type": "string" } },
            },
        },
        "authenticated": {
            "name": "authenticated",
            "title": "The token is valid until then",
            "contentType": "application/json",
            "payload": about_token("authenticated"),
        },
        "expiring": {
            "name": "expiring",
            "title": "The token expires then: send another one",
            "contentType": "application/json",
            "payload": about_token("expiring"),
        },
        "refused": {
            "name": "refused",
            "title": "The token is refused. If it was the first one, the connection is closed.",
            "contentType": "application/json",
            "payload": {
                "type": "object",
                "required": ["type", "problem"],
                "properties": {
                    "type": { "const": "refused" },
                    "problem": { "type": "object", "description": "Problem details (RFC 9457)" },
                },
            },
        },
    })
}

/// Returns the messages of all channels.
pub(super) fn messages(example: &Value) -> Value {
    let mut messages = messages_of_channels(example);
    if let (Value::Object(all), Value::Object(of_tokens)) = (&mut messages, messages_of_tokens()) {
        all.extend(of_tokens);
    }
    messages
}

fn messages_of_channels(example: &Value) -> Value {
    json!({
        "message": {
            "name": "message",
            "title": "A stored message",
            "contentType": "application/json",
            "payload": { "$ref": "#/components/schemas/Message" },
            "examples": [{ "payload": example }],
        },
        "event": {
            "name": "event",
            "title": "A change of a message",
            "contentType": "application/json",
            "payload": {
                "allOf": [
                    { "$ref": "#/components/schemas/Event" },
                    control(&json!({}), &["position"]),
                ],
            },
        },
        "ready": {
            "name": "ready",
            "title": "The stream begins",
            "contentType": "application/json",
            "payload": control(
                &json!({ "type": { "const": "ready" }, "resumed": { "type": "boolean" } }),
                &["type", "position", "resumed"],
            ),
        },
        "reset": {
            "name": "reset",
            "title": "Start over: list again, then go on from this position",
            "contentType": "application/json",
            "payload": control(
                &json!({
                    "type": { "const": "reset" },
                    "reason": { "enum": ResetReason::ALL.map(ResetReason::text) },
                }),
                &["type", "position", "reason"],
            ),
        },
        "position": {
            "name": "position",
            "title": "Where an idle stream is",
            "contentType": "application/json",
            "payload": control(
                &json!({ "type": { "const": "position" } }),
                &["type", "position"],
            ),
        },
    })
}

/// Returns the schema of a frame with a position and these other properties.
fn control(properties: &Value, required: &[&str]) -> Value {
    let mut properties = properties.clone();
    properties["position"] = json!({ "type": "string", "description": "Opaque" });
    json!({ "type": "object", "required": required, "properties": properties })
}
