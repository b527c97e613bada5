//! HTTP answers: messages with their validators, problems with their headers.

use std::time::Duration;

use axum::{
    Json,
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use contracts::{
    Failure, Message, MessageId, OperationId, Problem, ProblemKind, Version, VersionedMessage,
};
use serde::Serialize;
use service::http::problem;
use store::StoreError;

/// Time after which a client may ask or try again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// An error answer.
#[derive(Debug)]
pub(crate) struct ProblemResponse(pub(crate) Problem);

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
        // The client is told no internals. An outage is logged once, by the health check.
        tracing::debug!(%error, "cannot read from the store");
        if error.is_permanent() {
            return internal(&error.to_string());
        }
        let detail = "stored messages cannot be read now; try again later";
        Self(Problem::new(ProblemKind::StorageUnavailable, detail))
    }
}

/// The problem that a synchronous answer to a failed command is.
pub(crate) fn failure_problem(failure: Failure) -> Problem {
    match failure {
        Failure::NotFound => message_not_found(),
        Failure::VersionMismatch => Problem::new(
            ProblemKind::VersionMismatch,
            "the message has another version than If-Match asks for; fetch it and try again",
        ),
        Failure::KeyReused => Problem::new(
            ProblemKind::KeyReused,
            "this Idempotency-Key was used before with another body",
        ),
        Failure::DeletedSince => Problem::new(
            ProblemKind::MessageDeleted,
            "the message that this Idempotency-Key made has been deleted since",
        ),
        Failure::DeadLettered => Problem::new(
            ProblemKind::DeadLettered,
            "the write could not be applied and was set aside for the operators",
        ),
    }
}

pub(crate) fn message_not_found() -> Problem {
    Problem::new(ProblemKind::MessageNotFound, "there is no such message, or no longer")
}

/// A fault of the gateway itself: `what` goes to the log only.
pub(crate) fn internal(what: &str) -> ProblemResponse {
    tracing::error!(what, "internal error");
    ProblemResponse(Problem::new(ProblemKind::Internal, "an unexpected error; it has been logged"))
}

/// 200 or 201 with a message and its `ETag`.
pub(crate) fn message(status: StatusCode, stored: &VersionedMessage) -> Response {
    (status, [(header::ETAG, etag(stored.version))], Json(&stored.message)).into_response()
}

/// 201 with the message, its `Location` and its `ETag`.
pub(crate) fn created(stored: &VersionedMessage) -> Response {
    let location = [(header::LOCATION, message_path(stored.message.id))];
    (location, message(StatusCode::CREATED, stored)).into_response()
}

/// 202: the write is durable, and not applied yet.
pub(crate) fn accepted(operation: OperationId, body: impl Serialize) -> Response {
    let headers = [
        (header::LOCATION, format!("/api/operations/{operation}")),
        (header::RETRY_AFTER, RETRY_AFTER.as_secs().to_string()),
    ];
    (StatusCode::ACCEPTED, headers, Json(body)).into_response()
}

/// 304 with the `ETag` that matched.
pub(crate) fn not_modified(version: Version) -> Response {
    (StatusCode::NOT_MODIFIED, [(header::ETAG, etag(version))]).into_response()
}

/// A JSON array of messages, with the link to the next page if there is one.
pub(crate) fn list(messages: &[VersionedMessage], next_link: Option<String>) -> Response {
    let messages: Vec<&Message> = messages.iter().map(|stored| &stored.message).collect();
    let link = next_link.map(|link| [(header::LINK, link)]);
    (link, Json(messages)).into_response()
}

/// A message's version as an entity tag.
pub(crate) fn etag(version: Version) -> String {
    format!("\"{version}\"")
}

/// Adds a header to a response.
pub(crate) fn with_header(
    mut response: Response<Body>,
    name: HeaderName,
    value: HeaderValue,
) -> Response<Body> {
    response.headers_mut().insert(name, value);
    response
}

fn message_path(id: MessageId) -> String {
    format!("/api/messages/{id}")
}
