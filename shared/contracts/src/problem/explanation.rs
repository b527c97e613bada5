//! What each problem type means and what to do about it: the resource behind its `type` (RFC 9457, section 3.1.1).
//! `docs/errors.md` has the same texts.

use serde::Serialize;
use utoipa::ToSchema;

use super::ProblemKind;

/// A problem type, explained. Text in backquotes is code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ProblemType {
    /// URI reference of the problem type.
    #[serde(rename = "type")]
    #[schema(format = "uri-reference")]
    pub type_uri: &'static str,
    /// Problem type in words.
    pub title: &'static str,
    /// HTTP status code.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// What happened.
    pub meaning: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

impl ProblemKind {
    /// Returns the explanation of this problem type.
    #[must_use]
    pub const fn explain(self) -> ProblemType {
        ProblemType {
            type_uri: self.type_uri(),
            title: self.title(),
            status: self.status(),
            meaning: self.meaning(),
            remedy: self.remedy(),
        }
    }

    const fn meaning(self) -> &'static str {
        match self {
            Self::MalformedJson => "The body is not valid JSON in UTF-8. `detail` says where.",
            Self::BadRequest => {
                "The request cannot be read: its target or `Host` is missing or invalid, the body ends early, \
                 `If-Match` or `If-None-Match` is not a list of entity tags, a `PUT` has a `Content-Range`, or the \
                 WebSocket handshake is malformed."
            }
            Self::Unauthenticated => {
                "The request has no token, or the token is not valid here: it has expired, or another issuer made it, for example."
            }
            Self::Forbidden => {
                "The token allows this to nobody: it lacks the scope that `WWW-Authenticate` names, or its user claim is no user id."
            }
            Self::NotYourself => {
                "The request is made in the name of another user, or is about another user's messages."
            }
            Self::NotTheSender => "Only its sender may edit or delete a message.",
            Self::OriginForbidden => {
                "The page's origin is not allowed: for `/api/chat` it is not in `ALLOWED_ORIGINS`; for `/api/events` it is not that of the host that is asked, and not in `CORS_ORIGINS` (gateway) or `ALLOWED_ORIGINS` (broadcaster)."
            }
            Self::MessageNotFound => {
                "The message does not exist. It may have been deleted, or its creation may still be pending."
            }
            Self::OperationNotFound => {
                "No operation has this id: no service can have issued it yet, or somebody else has requested it."
            }
            Self::OperationExpired => {
                "An operation with this id would be older than 24 hours. If there was one, its outcome is no longer \
                 known."
            }
            Self::UnknownPath => "Nothing is served at this path.",
            Self::MethodNotAllowed => "The path does not support this method.",
            Self::RequestTimeout => "The body did not arrive within 10 s.",
            Self::FieldConflict => {
                "An edit would change a field other than `content`; `errors` names each."
            }
            Self::MessageDeleted => {
                "The message that was created with this `Idempotency-Key` has been deleted."
            }
            Self::VersionMismatch => {
                "The message has a version that `If-Match` does not list, or one that `If-None-Match` lists."
            }
            Self::PreconditionFailed => {
                "`If-Match` is not met by a resource that is not a message, or by a `POST`, whose message does not \
                 exist yet."
            }
            Self::BodyTooLarge => "The body is larger than 64 KiB.",
            Self::UnsupportedMediaType => {
                "The body's media type is not `application/json` in UTF-8, or the body has a `Content-Encoding`."
            }
            Self::ExpectationFailed => "The request has an `Expect` other than `100-continue`.",
            Self::InvalidInput => {
                "Fields, parameters or headers are invalid; `errors` names each, up to 32."
            }
            Self::KeyReused => {
                "The same sender used this `Idempotency-Key` before, with a different body."
            }
            Self::UpgradeRequired => {
                "The path is a WebSocket, and the request does not ask for one (version 13)."
            }
            Self::TooManyFromAddress => "The subscription limit for this address is reached.",
            Self::RateLimited => "This user, or this address, has made too many requests.",
            Self::DeadLettered => "The write could not be applied and is now a dead letter.",
            Self::Internal => "The service has a fault.",
            Self::NotImplemented => {
                "The request has a `Transfer-Encoding` other than `chunked`, or is a `CONNECT`."
            }
            Self::BroadcasterUnavailable => {
                "The gateway cannot reach the broadcaster (`/api/chat` only)."
            }
            Self::NotAccepted => "The write was not accepted; nothing was written.",
            Self::OutcomeUnknown => {
                "The broker did not confirm the write, which may still be applied."
            }
            Self::KeysUnavailable => {
                "The token cannot be checked, because the issuer's keys are not known at present. The token may be valid."
            }
            Self::StorageUnavailable => "Messages cannot be read because MongoDB is unavailable.",
            Self::Overloaded => {
                "Too many requests or subscribers are being served, or the replica is stopping."
            }
        }
    }

    const fn remedy(self) -> &'static str {
        match self {
            Self::MalformedJson | Self::BadRequest => {
                "Fix the part of the request that `detail` names."
            }
            Self::Unauthenticated => {
                "Send `Authorization: Bearer` and a token of the issuer that `/.well-known/oauth-protected-resource` names."
            }
            Self::Forbidden => "Ask the issuer for a token with that scope.",
            Self::NotYourself => "Send your own user id, or leave it out where it is optional.",
            Self::NotTheSender => "Ask the sender.",
            Self::OriginForbidden => {
                "Add the origin to the configuration of the service; for `/api/chat`, of the broadcaster."
            }
            Self::MessageNotFound => "After a 202, wait for the operation to succeed.",
            Self::OperationNotFound => "Use the `Location` of a 202.",
            Self::OperationExpired => "Read the message to see its state.",
            Self::UnknownPath => "Check the URL; paths have no trailing slash.",
            Self::MethodNotAllowed => "Use a method that `Allow` lists.",
            Self::RequestTimeout => "Send the request again.",
            Self::FieldConflict => "Send `content` alone, or the other fields as stored.",
            Self::MessageDeleted => "Use a new key to create another message.",
            Self::VersionMismatch => {
                "Read the message, apply your change to it, and retry with its new `ETag`."
            }
            Self::PreconditionFailed => {
                "Leave `If-Match` out, or send the resource's `ETag` if it has one."
            }
            Self::BodyTooLarge => "Send less.",
            Self::UnsupportedMediaType => {
                "Set `Content-Type: application/json`, and do not compress the body."
            }
            Self::ExpectationFailed => "Send no other.",
            Self::InvalidInput => "Fix them.",
            Self::KeyReused => "Use one key for each message.",
            Self::UpgradeRequired => "Connect with `ws://` or `wss://`.",
            Self::TooManyFromAddress => {
                "Retry after `Retry-After` seconds, or close other subscriptions."
            }
            Self::RateLimited => {
                "Retry after `Retry-After` seconds. `RateLimit` says how many are left."
            }
            Self::DeadLettered => "Ask the operators; they can replay it.",
            Self::Internal => "Report it with the `X-Request-Id`.",
            Self::NotImplemented => "Send the body as it is.",
            Self::BroadcasterUnavailable => "Retry later.",
            Self::NotAccepted => "Repeat it after `Retry-After` seconds.",
            Self::OutcomeUnknown => {
                "Repeat it safely: with the same `Idempotency-Key` or with `If-Match`."
            }
            Self::KeysUnavailable | Self::StorageUnavailable | Self::Overloaded => {
                "Retry after `Retry-After` seconds."
            }
        }
    }
}
