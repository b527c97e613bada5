//! The problems that the gateway answers with, each with its detail text. A detail says what
//! happened and what to do. The messages of field errors stand beside the checks that find them.

use std::{any::Any, time::Duration};

use axum::{
    body::Body,
    http::HeaderName,
    response::{IntoResponse, Response},
};
use broker::PublishError;
use contracts::{Failure, FieldError, Outcome, Problem, ProblemKind};
use service::http::problem;
use store::StoreError;
use telemetry::error_chain;

/// Time after which a client may retry.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The result of every handler.
pub(crate) type HandlerResult = Result<Response, ProblemResponse>;

/// A problem as a response.
#[derive(Debug)]
pub(crate) struct ProblemResponse(Problem);

impl IntoResponse for ProblemResponse {
    fn into_response(self) -> Response {
        problem::response(&self.0, RETRY_AFTER).map(Body::new)
    }
}

impl From<Problem> for ProblemResponse {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<StoreError> for ProblemResponse {
    fn from(error: StoreError) -> Self {
        if error.is_permanent() {
            return internal(&error_chain(&error).to_string()).into();
        }
        // An outage is logged once, by the health check.
        tracing::debug!(error = %error_chain(&error), "cannot read from MongoDB");
        let detail = "storage is temporarily unavailable; retry later";
        Problem::new(ProblemKind::StorageUnavailable, detail).into()
    }
}

// Requests.

pub(crate) fn unknown_path() -> Problem {
    let detail = "there is no resource at this path; see /docs for those there are";
    Problem::new(ProblemKind::UnknownPath, detail)
}

pub(crate) fn method_not_allowed() -> Problem {
    let detail = "this resource does not support this method; see the Allow header";
    Problem::new(ProblemKind::MethodNotAllowed, detail)
}

pub(crate) fn unsupported_media_type() -> Problem {
    let detail = "the Content-Type must be application/json";
    Problem::new(ProblemKind::UnsupportedMediaType, detail)
}

pub(crate) fn body_timeout() -> Problem {
    Problem::new(ProblemKind::RequestTimeout, "the body did not arrive within 10 s; send it again")
}

pub(crate) fn body_too_large() -> Problem {
    Problem::new(ProblemKind::BodyTooLarge, "the body must have at most 65536 bytes")
}

pub(crate) fn unreadable_body() -> Problem {
    Problem::new(ProblemKind::BadRequest, "the body could not be read to its end; send it again")
}

pub(crate) fn malformed_json(error: &serde_json::Error) -> Problem {
    Problem::new(ProblemKind::MalformedJson, format!("the body is not valid JSON: {error}"))
}

pub(crate) fn invalid_entity_tag(header: &HeaderName, reason: &str) -> Problem {
    let detail =
        format!("the header {header} is invalid: {reason}; send an ETag such as \"3\", or *");
    Problem::new(ProblemKind::BadRequest, detail)
}

// Messages and operations.

pub(crate) fn message_not_found() -> Problem {
    let detail = "message not found; it may have been deleted";
    Problem::new(ProblemKind::MessageNotFound, detail)
}

pub(crate) fn fields_differ(errors: Vec<FieldError>) -> Problem {
    let detail = "only content can be edited; the fields in errors differ from the stored message";
    Problem { errors, ..Problem::new(ProblemKind::FieldConflict, detail) }
}

pub(crate) fn version_mismatch() -> Problem {
    let detail = "the message's version is not the one in If-Match; fetch the message, then retry \
                  with its ETag";
    Problem::new(ProblemKind::VersionMismatch, detail)
}

pub(crate) fn operation_expired() -> Problem {
    let detail = "operations are kept for 24 hours, and this one is older; fetch the message to \
                  see its state";
    Problem::new(ProblemKind::OperationExpired, detail)
}

/// Returns the problem of a command that failed.
pub(crate) fn command_failed(failure: Failure) -> Problem {
    let (kind, detail) = match failure {
        Failure::NotFound => return message_not_found(),
        Failure::VersionMismatch => return version_mismatch(),
        Failure::KeyReused => (
            ProblemKind::KeyReused,
            "this Idempotency-Key was used before with a different body; use a new key",
        ),
        Failure::DeletedSince => (
            ProblemKind::MessageDeleted,
            "the message created with this Idempotency-Key has been deleted; use a new key",
        ),
        Failure::DeadLettered => (
            ProblemKind::DeadLettered,
            "the write could not be applied and was dead-lettered for the operators to examine",
        ),
    };
    Problem::new(kind, detail)
}

/// Returns the problem of an outcome that its command has no success for.
pub(crate) fn not_a_success(outcome: &Outcome) -> Problem {
    match outcome {
        Outcome::Failed(failure) => command_failed(*failure),
        _ => internal("an outcome does not fit its command"),
    }
}

// Dependencies and limits.

/// Returns the problem of a command that the broker did not confirm.
pub(crate) fn publish_failed(error: &PublishError) -> Problem {
    let (kind, detail) = match error {
        PublishError::NotAccepted(_) => (
            ProblemKind::NotAccepted,
            "the message broker did not accept the write; nothing was written, retry later",
        ),
        PublishError::OutcomeUnknown(_) => (
            ProblemKind::OutcomeUnknown,
            "the message broker did not confirm the write, which may still be applied; retry with \
             the same Idempotency-Key or with If-Match",
        ),
    };
    Problem::new(kind, detail)
}

pub(crate) fn too_many_writes() -> Problem {
    let detail = "too many writes are waiting; nothing was written, retry later";
    Problem::new(ProblemKind::NotAccepted, detail)
}

pub(crate) fn too_many_requests() -> Problem {
    let detail = "the gateway is serving too many requests; retry later";
    Problem::new(ProblemKind::Overloaded, detail)
}

pub(crate) fn too_many_tunnels() -> Problem {
    let detail = "the gateway has too many WebSockets open; retry later";
    Problem::new(ProblemKind::Overloaded, detail)
}

pub(crate) fn shutting_down() -> Problem {
    Problem::new(ProblemKind::Overloaded, "this gateway is shutting down; connect again")
}

pub(crate) fn broadcaster_unavailable() -> Problem {
    let detail = "the broadcaster is temporarily unavailable; retry later";
    Problem::new(ProblemKind::BroadcasterUnavailable, detail)
}

/// Logs a fault of the gateway itself. The client learns nothing of `reason`.
pub(crate) fn internal(reason: &str) -> Problem {
    tracing::error!(reason, "internal error; a request was answered 500");
    let detail = "an unexpected error occurred; report it with this response's X-Request-Id";
    Problem::new(ProblemKind::Internal, detail)
}

/// Returns the response to a request whose handler panicked.
#[expect(clippy::needless_pass_by_value, reason = "the layer's signature")]
pub(crate) fn panicked(payload: Box<dyn Any + Send>) -> Response {
    ProblemResponse(internal(service::panic_message(payload.as_ref()))).into_response()
}
