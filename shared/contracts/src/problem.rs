//! Error bodies: problem details of RFC 9457.

mod explanation;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use explanation::ProblemType;

/// Problem types of this API. Each has its `type`, its title and its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// 400: The body is not valid JSON.
    MalformedJson,
    /// 400: The request itself cannot be read.
    BadRequest,
    /// 401: The request has no token, or one that is not valid.
    Unauthenticated,
    /// 403: The token does not allow this.
    Forbidden,
    /// 403: The request is made in the name of another user than the token's, or is about one.
    NotYourself,
    /// 403: Only the sender of a message may change it.
    NotTheSender,
    /// 403: Pages of this origin are not allowed to subscribe.
    OriginForbidden,
    /// 404: No message has this id; it may have been deleted.
    MessageNotFound,
    /// 404: No operation has this id.
    OperationNotFound,
    /// 404: The operation ended too long ago to be known.
    OperationExpired,
    /// 404: Nothing is served at this path.
    UnknownPath,
    /// 405: The path does not support this method; `Allow` lists those that it does.
    MethodNotAllowed,
    /// 408: The request did not arrive in time.
    RequestTimeout,
    /// 409: The body changes a field that an edit cannot change.
    FieldConflict,
    /// 409: The message that was created with this idempotency key has been deleted.
    MessageDeleted,
    /// 412: The message has a version that `If-Match` or `If-None-Match` rules out; read it again and retry.
    VersionMismatch,
    /// 412: The resource, which is not a message, does not meet `If-Match`.
    PreconditionFailed,
    /// 413: The body is larger than 64 KiB.
    BodyTooLarge,
    /// 415: The media type of the body is not `application/json`.
    UnsupportedMediaType,
    /// 417: The request has an expectation that no service can meet.
    ExpectationFailed,
    /// 422: At least one field is wrong; `errors` names each of them.
    InvalidInput,
    /// 422: The idempotency key was used before, with another body.
    KeyReused,
    /// 426: The path serves a WebSocket, and the request does not ask for one of a supported version.
    UpgradeRequired,
    /// 429: The limit of subscribers from this address is reached; retry later.
    TooManyFromAddress,
    /// 429: The rate limit of this user or address is reached; retry later.
    RateLimited,
    /// 500: The command could not be applied and was dead-lettered; operators can replay it.
    DeadLettered,
    /// 500: The service failed unexpectedly.
    Internal,
    /// 501: The request needs a part of HTTP that the services do not have.
    NotImplemented,
    /// 502: The broadcaster cannot be reached; retry later.
    BroadcasterUnavailable,
    /// 503: The write was not accepted, and nothing was written; retry later.
    NotAccepted,
    /// 503: The write may have been accepted; repeat it with the same idempotency key or `If-Match`.
    OutcomeUnknown,
    /// 503: The keys that verify tokens are not known at present; retry later.
    KeysUnavailable,
    /// 503: Storage is temporarily unavailable; retry later.
    StorageUnavailable,
    /// 503: The service has reached its limit of concurrent requests or subscribers; retry later.
    Overloaded,
}

impl ProblemKind {
    /// All problem types.
    pub const ALL: [Self; 34] = [
        Self::MalformedJson,
        Self::BadRequest,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotYourself,
        Self::NotTheSender,
        Self::OriginForbidden,
        Self::MessageNotFound,
        Self::OperationNotFound,
        Self::OperationExpired,
        Self::UnknownPath,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::FieldConflict,
        Self::MessageDeleted,
        Self::VersionMismatch,
        Self::PreconditionFailed,
        Self::BodyTooLarge,
        Self::UnsupportedMediaType,
        Self::ExpectationFailed,
        Self::InvalidInput,
        Self::KeyReused,
        Self::UpgradeRequired,
        Self::TooManyFromAddress,
        Self::RateLimited,
        Self::DeadLettered,
        Self::Internal,
        Self::NotImplemented,
        Self::BroadcasterUnavailable,
        Self::NotAccepted,
        Self::OutcomeUnknown,
        Self::KeysUnavailable,
        Self::StorageUnavailable,
        Self::Overloaded,
    ];

    /// Returns status, `type` and title.
    const fn row(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::MalformedJson => (400, "/problems/malformed-json", "Malformed JSON"),
            Self::BadRequest => (400, "/problems/bad-request", "Bad request"),
            Self::Unauthenticated => (401, "/problems/unauthenticated", "Not authenticated"),
            Self::Forbidden => (403, "/problems/forbidden", "Forbidden"),
            Self::NotYourself => (403, "/problems/not-yourself", "Not yourself"),
            Self::NotTheSender => (403, "/problems/not-the-sender", "Not the sender"),
            Self::OriginForbidden => (403, "/problems/origin-forbidden", "Origin forbidden"),
            Self::MessageNotFound => (404, "/problems/message-not-found", "Message not found"),
            Self::OperationNotFound => {
                (404, "/problems/operation-not-found", "Operation not found")
            }
            Self::OperationExpired => (404, "/problems/operation-expired", "Operation expired"),
            Self::UnknownPath => (404, "/problems/unknown-path", "Unknown path"),
            Self::MethodNotAllowed => (405, "/problems/method-not-allowed", "Method not allowed"),
            Self::RequestTimeout => (408, "/problems/request-timeout", "Request timeout"),
            Self::FieldConflict => (409, "/problems/field-conflict", "Field conflict"),
            Self::MessageDeleted => (409, "/problems/message-deleted", "Message deleted"),
            Self::VersionMismatch => (412, "/problems/version-mismatch", "Version mismatch"),
            Self::PreconditionFailed => {
                (412, "/problems/precondition-failed", "Precondition failed")
            }
            Self::BodyTooLarge => (413, "/problems/body-too-large", "Body too large"),
            Self::UnsupportedMediaType => {
                (415, "/problems/unsupported-media-type", "Unsupported media type")
            }
            Self::ExpectationFailed => (417, "/problems/expectation-failed", "Expectation failed"),
            Self::InvalidInput => (422, "/problems/invalid-input", "Invalid input"),
            Self::KeyReused => (422, "/problems/key-reused", "Idempotency key reused"),
            Self::UpgradeRequired => (426, "/problems/upgrade-required", "Upgrade required"),
            Self::TooManyFromAddress => {
                (429, "/problems/too-many-from-address", "Too many subscribers from one address")
            }
            Self::RateLimited => (429, "/problems/rate-limited", "Rate limit reached"),
            Self::DeadLettered => (500, "/problems/dead-lettered", "Command dead-lettered"),
            Self::Internal => (500, "/problems/internal", "Internal error"),
            Self::NotImplemented => (501, "/problems/not-implemented", "Not implemented"),
            Self::BroadcasterUnavailable => {
                (502, "/problems/broadcaster-unavailable", "Broadcaster unavailable")
            }
            Self::NotAccepted => (503, "/problems/not-accepted", "Write not accepted"),
            Self::OutcomeUnknown => (503, "/problems/outcome-unknown", "Outcome unknown"),
            Self::KeysUnavailable => (503, "/problems/keys-unavailable", "Keys unavailable"),
            Self::StorageUnavailable => {
                (503, "/problems/storage-unavailable", "Storage unavailable")
            }
            Self::Overloaded => (503, "/problems/overloaded", "Overloaded"),
        }
    }

    /// Returns the HTTP status code.
    #[must_use]
    pub const fn status(self) -> u16 {
        self.row().0
    }

    /// Returns the problem's `type`, a URI reference that is unique to this kind.
    #[must_use]
    pub const fn type_uri(self) -> &'static str {
        self.row().1
    }

    /// Returns the kind with this `type`.
    #[must_use]
    pub fn from_type_uri(type_uri: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_uri() == type_uri)
    }

    /// Returns the title, the same for every problem of this kind.
    #[must_use]
    pub const fn title(self) -> &'static str {
        self.row().2
    }
}

/// Problem details object (RFC 9457), the body of every error response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// URI reference of the problem type.
    #[serde(rename = "type")]
    #[schema(format = "uri-reference")]
    pub type_uri: Cow<'static, str>,
    /// Problem type in words.
    pub title: Cow<'static, str>,
    /// HTTP status code.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// Explanation of this occurrence, and the remedy.
    pub detail: Cow<'static, str>,
    /// The field errors, on 422 and on 409 field-conflict: at most 32; `detail` says how many more there are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(min_items = 1)]
    pub errors: Vec<FieldError>,
}

/// One wrong field, in FastAPI's format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// Path to the field: `body`, `query`, `path` or `header`, then its name.
    #[schema(min_items = 1, inline)]
    pub loc: Vec<Location>,
    /// Explanation for people.
    pub msg: String,
    /// Kind of mistake, for programs.
    #[serde(rename = "type")]
    pub kind: Cow<'static, str>,
}

/// One step of a path to a field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Location {
    /// Member of an object.
    Name(Cow<'static, str>),
    /// Element of an array.
    Index(usize),
}

impl Problem {
    /// Returns a problem of this kind.
    pub fn new(kind: ProblemKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            type_uri: kind.type_uri().into(),
            title: kind.title().into(),
            status: kind.status(),
            detail: detail.into(),
            errors: Vec::new(),
        }
    }

    /// Returns the 422 that names these fields, and says how many more are wrong.
    #[must_use]
    pub fn invalid_input(errors: Vec<FieldError>, left_out: usize) -> Self {
        let detail = match (errors.len(), left_out) {
            (1, 0) => "1 field is wrong; see errors".to_owned(),
            (count, 0) => format!("{count} fields are wrong; see errors"),
            (named, left_out) => format!(
                "{} fields are wrong; errors names {named} of them and leaves out {left_out}",
                named + left_out
            ),
        };
        Self { errors, ..Self::new(ProblemKind::InvalidInput, detail) }
    }
}

impl FieldError {
    /// Returns a mistake in the member `name` of `part` (`body`, `query`, `path` or `header`).
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks through all kinds. A new kind compiles only once it has its place here.
    fn after(kind: ProblemKind) -> Option<ProblemKind> {
        use ProblemKind::*;
        Some(match kind {
            MalformedJson => BadRequest,
            BadRequest => Unauthenticated,
            Unauthenticated => Forbidden,
            Forbidden => NotYourself,
            NotYourself => NotTheSender,
            NotTheSender => OriginForbidden,
            OriginForbidden => MessageNotFound,
            MessageNotFound => OperationNotFound,
            OperationNotFound => OperationExpired,
            OperationExpired => UnknownPath,
            UnknownPath => MethodNotAllowed,
            MethodNotAllowed => RequestTimeout,
            RequestTimeout => FieldConflict,
            FieldConflict => MessageDeleted,
            MessageDeleted => VersionMismatch,
            VersionMismatch => PreconditionFailed,
            PreconditionFailed => BodyTooLarge,
            BodyTooLarge => UnsupportedMediaType,
            UnsupportedMediaType => ExpectationFailed,
            ExpectationFailed => InvalidInput,
            InvalidInput => KeyReused,
            KeyReused => UpgradeRequired,
            UpgradeRequired => TooManyFromAddress,
            TooManyFromAddress => RateLimited,
            RateLimited => DeadLettered,
            DeadLettered => Internal,
            Internal => NotImplemented,
            NotImplemented => BroadcasterUnavailable,
            BroadcasterUnavailable => NotAccepted,
            NotAccepted => OutcomeUnknown,
            OutcomeUnknown => KeysUnavailable,
            KeysUnavailable => StorageUnavailable,
            StorageUnavailable => Overloaded,
            Overloaded => return None,
        })
    }

    #[test]
    fn all_kinds_are_listed_and_each_has_a_type_of_its_own() {
        let kinds = std::iter::successors(Some(ProblemKind::ALL[0]), |kind| after(*kind));
        assert!(kinds.eq(ProblemKind::ALL));
        for kind in ProblemKind::ALL {
            assert_eq!(ProblemKind::from_type_uri(kind.type_uri()), Some(kind));
        }
    }

    #[test]
    fn the_documentation_explains_every_problem_type_in_the_same_words() {
        let document = without_links(include_str!("../../../docs/errors.md"));
        let listed: Vec<&str> =
            document.lines().filter(|line| line.starts_with("| `/problems/")).collect();
        let expected = ProblemKind::ALL.map(|kind| {
            let ProblemType { type_uri, status, meaning, remedy, .. } = kind.explain();
            format!("| `{type_uri}` | {status} | {meaning} | {remedy} |")
        });
        assert_eq!(listed, expected, "docs/errors.md differs");
    }

    /// Replaces each link of Markdown by its text.
    fn without_links(markdown: &str) -> String {
        let mut text = String::new();
        let mut rest = markdown;
        while let Some((before, link)) = rest.split_once('[') {
            let parts = link.split_once("](").and_then(|(shown, target)| {
                target.split_once(')').map(|(_, after)| (shown, after))
            });
            let Some((shown, after)) = parts else { break };
            text.extend([before, shown]);
            rest = after;
        }
        text + rest
    }
}
