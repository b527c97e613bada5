//! Headers and query parameters of requests.
#![expect(dead_code, reason = "these types only describe")]

use contracts::UserId;
use utoipa::{
    IntoParams, ToSchema,
    openapi::{
        ObjectBuilder, Type,
        schema::{AnyOfBuilder, Schema},
    },
};

use super::schemas::EventPosition;
use crate::http::query::DEFAULT_LIMIT;

/// Headers of every request.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(super) struct RequestHeaders {
    /// Identifies the request in the response and in the log, if it is 1–128 visible ASCII characters;
    /// otherwise the service generates an id.
    #[param(rename = "X-Request-Id", required = false)]
    request_id: String,
}

/// Headers of `POST /api/messages`.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(crate) struct CreateHeaders {
    /// Makes the request safe to repeat: the same sender and key never create a second message.
    #[param(
        rename = "Idempotency-Key",
        required = false,
        min_length = 1,
        max_length = 255,
        pattern = "^[!-~]+$"
    )]
    idempotency_key: String,
}

/// Header of every write. Its values are not restricted: RFC 7240 has unknown preferences ignored.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(crate) struct PreferHeader {
    /// `respond-async`: respond 202 once the write is durable. `wait=N`: respond 202 after N seconds,
    /// at most 30, if the write is not stored by then (RFC 7240).
    #[param(rename = "Prefer", required = false, example = "wait=10")]
    prefer: String,
}

/// Preconditions of every request but a handshake (RFC 9110, section 13).
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(super) struct PreconditionHeaders {
    /// `ETag`s of which the resource must have one; `*` for any. Otherwise the response is 412.
    #[param(rename = "If-Match", required = false, schema_with = any_or_tags)]
    if_match: String,
    /// `ETag`s of which the resource must have none; `*` for any. Otherwise a read is answered 304, a write 412.
    #[param(rename = "If-None-Match", required = false, schema_with = any_or_tags)]
    if_none_match: String,
}

/// Header of a problem type's page.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(crate) struct AcceptHeader {
    /// Media types that the client prefers.
    #[param(rename = "Accept", required = false, example = "application/json")]
    accept: String,
}

/// Query of `GET /api/events`. Unknown parameters are ignored.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventQuery {
    /// User whose messages are followed, sent and received ones.
    user_id: UserId,
    /// The other user, to follow one conversation only.
    #[param(required = false)]
    with: UserId,
    /// Position behind which to begin; without it, from now on. Opaque: that of an event or a page, or as the `Link` of a
    /// list has it.
    #[param(required = false, inline)]
    after: EventPosition,
}

/// Headers of `GET /api/events`. `Accept` stands with the media types of the response.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(crate) struct EventHeaders {
    /// The same as `after`, over which it has precedence. A browser's `EventSource` sends it.
    #[param(rename = "Last-Event-ID", required = false, inline)]
    last_event_id: EventPosition,
    /// `wait=N`: if there is no event yet, wait up to N seconds for one, at most 30 (RFC 7240). For JSON only.
    #[param(rename = "Prefer", required = false, example = "wait=2")]
    prefer: String,
}

/// Query of `GET /api/messages`. Unknown parameters are ignored.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Sender.
    from_user_id: UserId,
    /// Recipient.
    to_user_id: UserId,
    /// `both` adds the messages of the opposite direction.
    #[param(required = false, inline)]
    direction: Direction,
    /// Maximum number of messages on the page.
    #[param(required = false, minimum = 1, maximum = 200, default = json!(DEFAULT_LIMIT))]
    limit: u16,
    /// Start of the page. Opaque: follow the `Link` header instead of building one.
    #[param(
        required = false,
        min_length = 48,
        max_length = 48,
        pattern = "^0000[0-9a-d][0-9a-f]{43}$"
    )]
    cursor: String,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
enum Direction {
    Both,
}

/// `*` or a list; schemathesis makes invalid values of one pattern for both.
fn any_or_tags() -> Schema {
    const TAGS: &str = r#"^(W/)?"[!#-~\x80-\xff]*"([ \t]*,[ \t]*(W/)?"[!#-~\x80-\xff]*")*$"#;
    let text = || ObjectBuilder::new().schema_type(Type::String);
    AnyOfBuilder::new()
        .item(text().enum_values(Some(["*"])))
        .item(text().pattern(Some(TAGS)).examples(["\"1\""]))
        .build()
        .into()
}
