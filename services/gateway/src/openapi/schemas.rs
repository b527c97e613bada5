//! Schemas of bodies that have no type of their own: requests, which `http::body` reads member by
//! member to name all mistakes at once, and the responses of `service::Health`.
#![expect(dead_code, reason = "these types only describe")]

use std::collections::BTreeMap;

use contracts::{Content, Event, MessageId, Timestamp, UserId};
use utoipa::ToSchema;

/// A user's id in a request body: a string, or an integer that stands for one.
#[derive(ToSchema)]
#[serde(untagged)]
#[schema(examples("alice"))]
pub(crate) enum UserIdInput {
    Text(UserId),
    Integer(IntegerUserId),
}

/// An integer that is stored and returned as its decimal string.
#[derive(ToSchema)]
#[schema(minimum = -9_223_372_036_854_775_808i64, maximum = 18_446_744_073_709_551_615u64)]
pub(crate) struct IntegerUserId(i128);

/// Body of `POST /api/messages`.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(
    description = "A message to create",
    examples(json!({ "from_user_id": "alice", "to_user_id": "bob", "content": "hello" }))
)]
pub(crate) struct NewMessage {
    /// Sender. May be left out if the token has a user; without authentication it is required.
    #[schema(required = false)]
    from_user_id: UserIdInput,
    to_user_id: UserIdInput,
    content: Content,
}

/// The new content. The message's other members may be sent back as they were fetched; one that
/// differs from the stored message is a 409.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({ "content": "hello again" })))]
pub(crate) struct MessageEdit {
    content: Content,
    #[schema(required = false)]
    id: MessageId,
    #[schema(required = false)]
    from_user_id: UserIdInput,
    #[schema(required = false)]
    to_user_id: UserIdInput,
    #[schema(required = false)]
    publish_timestamp: Timestamp,
    edit_timestamp: Option<Timestamp>,
}

/// Opaque: use it as the `Location` of a 202 gave it.
// The thirteenth digit is the version of the command's UUID.
#[derive(ToSchema)]
#[schema(
    min_length = 64,
    max_length = 96,
    pattern = "^[0-9a-d][0-9a-f]{11}7[0-9a-f]{51}([0-9a-f]{32})?$",
    examples("0199f0c16a3e7c559d0e2f4b8a6c1e120199f0c16a3e7c559d0e2f4b8a6c1e11")
)]
pub(crate) struct OperationId(String);

/// Place in the log of changes. Opaque.
#[derive(ToSchema)]
#[schema(
    min_length = 31,
    max_length = 31,
    pattern = "^A[Q-Za-f][A-Za-z0-9_-]{28}[AEIMQUYcgkosw048]$",
    examples("AQzGVXOmPUuXAAAAAAAAAAf__-Zv3Zs")
)]
pub(crate) struct EventPosition(String);

/// Events in the order of the log.
#[derive(ToSchema)]
pub(crate) struct EventPage {
    /// At most 100. A `reset` is the last one.
    events: Vec<PositionedEvent>,
    /// Position at which the next page begins.
    position: EventPosition,
}

/// An event on a page, or in a frame of a WebSocket.
#[derive(ToSchema)]
#[serde(untagged)]
pub(crate) enum PositionedEvent {
    Change(ChangeEvent),
    Reset(ResetEvent),
}

/// A message was created, edited or deleted.
#[derive(ToSchema)]
pub(crate) struct ChangeEvent {
    #[serde(flatten)]
    event: Event,
    /// Place behind the event.
    position: EventPosition,
}

/// Some changes will not follow: list again, and continue from this position.
#[derive(ToSchema)]
pub(crate) struct ResetEvent {
    #[serde(rename = "type")]
    #[schema(inline)]
    kind: Reset,
    #[schema(inline)]
    reason: ResetReason,
    position: EventPosition,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum Reset {
    Reset,
}

#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
pub(crate) enum ResetReason {
    PositionExpired,
    OtherEpoch,
    TooMany,
}

/// Metadata of this API as a protected resource (RFC 9728).
#[derive(ToSchema)]
#[schema(examples(json!({
    "resource": "https://api.example",
    "authorization_servers": ["https://issuer.example"],
    "scopes_supported": ["messages:write-as", "messages:read-all", "broadcast:read"],
    "bearer_methods_supported": ["header"],
})))]
pub(crate) struct ResourceMetadata {
    /// Audience that tokens must have.
    resource: String,
    /// Issuer of the tokens.
    authorization_servers: Vec<String>,
    /// Scopes that a token may have besides its user's own rights.
    scopes_supported: Vec<String>,
    bearer_methods_supported: Vec<String>,
}

/// Body of `/livez`.
#[derive(ToSchema)]
pub(crate) struct Liveness {
    #[schema(inline)]
    status: Alive,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum Alive {
    Alive,
}

/// Body of `/readyz`.
#[derive(ToSchema)]
pub(crate) struct Readiness {
    #[schema(inline)]
    status: ReadinessStatus,
    /// State of each dependency of this gateway.
    #[schema(inline)]
    dependencies: BTreeMap<String, DependencyState>,
    /// Why dependencies are down, if the broker has said so; absent otherwise.
    #[schema(required = false)]
    reasons: BTreeMap<String, String>,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum ReadinessStatus {
    Ready,
    Degraded,
    Unready,
    Draining,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum DependencyState {
    Up,
    Down,
}
