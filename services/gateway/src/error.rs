//! The problems that the gateway answers with, each with its detail text. A detail says what
//! happened and what to do. The messages of field errors stand beside the checks that find them.

use std::{any::Any, time::Duration};

use auth::rules::Action;
use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use broker::PublishError;
use contracts::{Failure, Outcome, Problem, ProblemKind as Kind, Scope};
use service::http::preconditions;
use store::StoreError;
use telemetry::error_chain;

/// Time after which a client may retry.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The result of every handler.
pub(crate) type HandlerResult = Result<Response, ProblemResponse>;

/// A problem as a response.
#[derive(Debug)]
pub(crate) struct ProblemResponse {
    problem: Problem,
    missing_scope: Option<Scope>,
}

/// The scope that a token lacks, among the extensions of the response that refuses its request: the challenge names it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MissingScope(pub(crate) Scope);

impl IntoResponse for ProblemResponse {
    fn into_response(self) -> Response {
        let response = service::http::problem::response(&self.problem, RETRY_AFTER);
        let mut response = response.map(Body::new);
        if let Some(scope) = self.missing_scope {
            response.extensions_mut().insert(MissingScope(scope));
        }
        response
    }
}

impl From<Problem> for ProblemResponse {
    fn from(problem: Problem) -> Self {
        Self { problem, missing_scope: None }
    }
}

impl From<Kind> for ProblemResponse {
    fn from(kind: Kind) -> Self {
        problem(kind).into()
    }
}

impl From<StoreError> for ProblemResponse {
    fn from(error: StoreError) -> Self {
        if error.is_permanent() {
            return internal(&error_chain(&error).to_string()).into();
        }
        // An outage is logged once, by the health check.
        tracing::debug!(error = %error_chain(&error), "cannot read from MongoDB");
        Kind::StorageUnavailable.into()
    }
}

/// Returns a problem with the usual text of its kind.
pub(crate) fn problem(kind: Kind) -> Problem {
    let detail = match kind {
        // Requests.
        Kind::UnknownPath => "there is no resource at this path; see /docs for the API",
        Kind::UnsupportedMediaType => "the Content-Type must be application/json, in UTF-8",
        Kind::RequestTimeout => "the body did not arrive within 10 s; send it again",
        Kind::BodyTooLarge => "the body must have at most 65536 bytes",
        Kind::NotTheSender => "only its sender may edit or delete this message",
        // Messages and operations.
        Kind::MessageNotFound => "message not found; it may have been deleted",
        Kind::FieldConflict => {
            "only content can be edited; the fields in errors differ from the stored message"
        }
        Kind::VersionMismatch => preconditions::VERSION_MISMATCH,
        Kind::PreconditionFailed => preconditions::PRECONDITION_FAILED,
        Kind::OperationExpired => {
            "an operation with this id would be older than 24 hours; if there was one, its outcome \
             is no longer known; fetch the message to see its state"
        }
        Kind::OperationNotFound => {
            "no operation of yours has this id; use the Location of a 202 that you have got"
        }
        Kind::KeyReused => {
            "this Idempotency-Key was used before with a different body; use a new key"
        }
        Kind::MessageDeleted => {
            "the message created with this Idempotency-Key has been deleted; use a new key"
        }
        Kind::DeadLettered => {
            "the write could not be applied and was dead-lettered for the operators to examine"
        }
        // Dependencies and limits.
        Kind::NotAccepted => {
            "the message broker did not accept the write; nothing was written, retry later"
        }
        Kind::OutcomeUnknown => {
            "the message broker did not confirm the write, which may still be applied; retry with \
             the same Idempotency-Key or with If-Match"
        }
        Kind::StorageUnavailable => "storage is temporarily unavailable; retry later",
        Kind::BroadcasterUnavailable => "the broadcaster is temporarily unavailable; retry later",
        Kind::Overloaded => "the gateway is serving too many requests; retry later",
        Kind::Internal => {
            "an unexpected error occurred; report it with this response's X-Request-Id"
        }
        // Each has texts of its own, or only the broadcaster responds with it.
        Kind::BadRequest
        | Kind::MalformedJson
        | Kind::InvalidInput
        | Kind::Unauthenticated
        | Kind::Forbidden
        | Kind::NotYourself
        | Kind::RateLimited
        | Kind::KeysUnavailable
        | Kind::OriginForbidden
        | Kind::MethodNotAllowed
        | Kind::ExpectationFailed
        | Kind::NotImplemented
        | Kind::UpgradeRequired
        | Kind::TooManyFromAddress => kind.title(),
    };
    Problem::new(kind, detail)
}

pub(crate) fn if_match_on_create() -> Problem {
    let detail = "a message that a POST creates does not exist yet, so that it meets no If-Match; \
                  leave If-Match out";
    Problem::new(Kind::PreconditionFailed, detail)
}

/// Returns the problem of a request whose caller may not do this.
pub(crate) fn refused(kind: Kind, action: Action) -> ProblemResponse {
    let scope = action.rule().scope;
    let detail = match kind {
        Kind::Forbidden => {
            let detail = format!("this needs a token with the scope {scope}");
            let problem = Problem::new(kind, detail);
            return ProblemResponse { problem, missing_scope: Some(scope) };
        }
        Kind::NotYourself if action == Action::Create => {
            "from_user_id is not the user of your token; send that user, or leave from_user_id out"
        }
        Kind::NotYourself => {
            "neither from_user_id nor to_user_id is the user of your token; list your own messages"
        }
        _ => return kind.into(),
    };
    Problem::new(kind, detail).into()
}

/// Returns the problem of a command that failed.
pub(crate) fn command_failed(failure: Failure) -> Problem {
    problem(match failure {
        Failure::NotFound => Kind::MessageNotFound,
        Failure::NotTheSender => Kind::NotTheSender,
        Failure::VersionMismatch => Kind::VersionMismatch,
        Failure::KeyReused => Kind::KeyReused,
        Failure::DeletedSince => Kind::MessageDeleted,
        Failure::DeadLettered => Kind::DeadLettered,
    })
}

/// Returns the problem of an outcome that its command has no success for.
pub(crate) fn not_a_success(outcome: &Outcome) -> Problem {
    match outcome {
        Outcome::Failed(failure) => command_failed(*failure),
        _ => internal("an outcome does not fit its command"),
    }
}

/// Returns the problem of a command that the broker did not confirm.
pub(crate) fn publish_failed(error: &PublishError) -> Problem {
    problem(match error {
        PublishError::NotAccepted(_) => Kind::NotAccepted,
        PublishError::OutcomeUnknown(_) => Kind::OutcomeUnknown,
    })
}

/// Logs a fault of the gateway itself. The client learns nothing of `reason`.
pub(crate) fn internal(reason: &str) -> Problem {
    tracing::error!(reason, "internal error; a request was answered 500");
    problem(Kind::Internal)
}

/// Returns the response to a request whose handler panicked.
#[expect(clippy::needless_pass_by_value, reason = "the layer's signature")]
pub(crate) fn panicked(payload: Box<dyn Any + Send>) -> Response {
    ProblemResponse::from(internal(service::panic_message(payload.as_ref()))).into_response()
}
