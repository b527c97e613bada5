//! Errors as clients see them: RFC 9457 problem details.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The kinds of problem this API knows. Each has its `type`, its title and its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// 400: the body is not JSON.
    MalformedJson,
    /// 400: the request itself cannot be read.
    BadRequest,
    /// 403: the page that asks is of an origin that is not allowed here.
    OriginForbidden,
    /// 404: there is no such message, or no longer.
    MessageNotFound,
    /// 404: the operation ended too long ago.
    OperationExpired,
    /// 404: there is nothing at this path.
    UnknownPath,
    /// 405: the path is there, but not for this method. `Allow` says for which.
    MethodNotAllowed,
    /// 408: the request did not arrive in time.
    RequestTimeout,
    /// 409: a field that an edit can't change differs from what is stored.
    FieldConflict,
    /// 409: the message that this idempotency key made has been deleted since.
    MessageDeleted,
    /// 412: the message has another version than `If-Match` asks for.
    VersionMismatch,
    /// 413: the body is larger than 64 KiB.
    BodyTooLarge,
    /// 415: the body's media type is not `application/json`.
    UnsupportedMediaType,
    /// 422: at least one field is wrong; `errors` names each.
    InvalidInput,
    /// 422: the idempotency key was used before, with another body.
    KeyReused,
    /// 426: there is a WebSocket at this path, and the request asks for none, or for another version.
    UpgradeRequired,
    /// 429: as many subscribers come from one address as may.
    TooManyFromAddress,
    /// 500: the command could not be applied and was set aside for the operators.
    DeadLettered,
    /// 500: a fault of this service.
    Internal,
    /// 503: the write was not accepted; it is safe to repeat.
    NotAccepted,
    /// 503: whether the write was accepted is not known; repeat it with the same key or `If-Match`.
    OutcomeUnknown,
    /// 503: what is stored cannot be read now.
    StorageUnavailable,
    /// 502: the broadcaster cannot be reached.
    BroadcasterUnavailable,
    /// 503: as many are being served as can be.
    Overloaded,
}

impl ProblemKind {
    const fn row(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::MalformedJson => (400, "/problems/malformed-json", "Malformed JSON"),
            Self::BadRequest => (400, "/problems/bad-request", "Bad request"),
            Self::OriginForbidden => (403, "/problems/origin-forbidden", "Origin forbidden"),
            Self::MessageNotFound => (404, "/problems/message-not-found", "Message not found"),
            Self::OperationExpired => (404, "/problems/operation-expired", "Operation forgotten"),
            Self::UnknownPath => (404, "/problems/unknown-path", "Unknown path"),
            Self::MethodNotAllowed => (405, "/problems/method-not-allowed", "Method not allowed"),
            Self::RequestTimeout => (408, "/problems/request-timeout", "Request timeout"),
            Self::FieldConflict => (409, "/problems/field-conflict", "Field conflict"),
            Self::MessageDeleted => (409, "/problems/message-deleted", "Message deleted"),
            Self::VersionMismatch => (412, "/problems/version-mismatch", "Version mismatch"),
            Self::BodyTooLarge => (413, "/problems/body-too-large", "Body too large"),
            Self::UnsupportedMediaType => {
                (415, "/problems/unsupported-media-type", "Unsupported media type")
            }
            Self::InvalidInput => (422, "/problems/invalid-input", "Invalid input"),
            Self::KeyReused => (422, "/problems/key-reused", "Idempotency key reused"),
            Self::UpgradeRequired => (426, "/problems/upgrade-required", "Upgrade required"),
            Self::TooManyFromAddress => {
                (429, "/problems/too-many-from-address", "Too many from one address")
            }
            Self::DeadLettered => (500, "/problems/dead-lettered", "Command set aside"),
            Self::Internal => (500, "/problems/internal", "Internal error"),
            Self::BroadcasterUnavailable => {
                (502, "/problems/broadcaster-unavailable", "Broadcaster unavailable")
            }
            Self::NotAccepted => (503, "/problems/not-accepted", "Write not accepted"),
            Self::OutcomeUnknown => (503, "/problems/outcome-unknown", "Reply unknown"),
            Self::StorageUnavailable => {
                (503, "/problems/storage-unavailable", "Storage unavailable")
            }
            Self::Overloaded => (503, "/problems/overloaded", "Overloaded"),
        }
    }

    /// The HTTP status code.
    #[must_use]
    pub const fn status(self) -> u16 {
        self.row().0
    }

    /// The problem's `type`: a URI reference that names this kind and nothing else.
    #[must_use]
    pub const fn type_uri(self) -> &'static str {
        self.row().1
    }

    /// The same for every problem of this kind.
    #[must_use]
    pub const fn title(self) -> &'static str {
        self.row().2
    }
}

/// A problem details object (RFC 9457), the body of every error response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Problem type, for programs.
    #[serde(rename = "type")]
    #[schema(format = "uri-reference")]
    pub type_uri: Cow<'static, str>,
    /// Problem type, in words.
    pub title: Cow<'static, str>,
    /// HTTP status code.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// Cause of this problem, and what to do about it.
    pub detail: Cow<'static, str>,
    /// Every wrong field, where fields are wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(min_items = 1)]
    pub errors: Vec<FieldError>,
}

/// One wrong field, in the form that FastAPI gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// Location of the field: `body`, `query`, `path` or `header`, then its name.
    #[schema(min_items = 1, inline)]
    pub loc: Vec<Location>,
    /// Mistake, in words.
    pub msg: String,
    /// Mistake, for programs.
    #[serde(rename = "type")]
    pub kind: Cow<'static, str>,
}

/// One step on the way to a field: a name or an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Location {
    /// An object's member.
    Name(Cow<'static, str>),
    /// An array's element.
    Index(usize),
}

impl Problem {
    /// A problem of this kind.
    pub fn new(kind: ProblemKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            type_uri: kind.type_uri().into(),
            title: kind.title().into(),
            status: kind.status(),
            detail: detail.into(),
            errors: Vec::new(),
        }
    }

    /// The 422 that names these fields.
    #[must_use]
    pub fn invalid_input(errors: Vec<FieldError>) -> Self {
        let detail = match errors.len() {
            1 => "1 field is wrong; see errors".to_owned(),
            count => format!("{count} fields are wrong; see errors"),
        };
        Self { errors, ..Self::new(ProblemKind::InvalidInput, detail) }
    }
}

impl FieldError {
    /// A mistake in the member `name` of `part` (`body`, `query`, `path` or `header`).
    pub fn new(
        part: &'static str,
        name: impl Into<Cow<'static, str>>,
        kind: &'static str,
        msg: impl Into<String>,
    ) -> Self {
        Self {
            loc: vec![Location::Name(part.into()), Location::Name(name.into())],
            msg: msg.into(),
            kind: kind.into(),
        }
    }
}
