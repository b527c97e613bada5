//! `GET /api/operations/{op}`: what became of a write that was answered 202.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use contracts::{Failure, MessageId, OperationId, Problem, ProblemKind};
use serde::Serialize;
use store::OperationState;

use crate::{
    http::{
        path::PathParam,
        responses::{ProblemResponse, failure_problem},
    },
    openapi::{problems::OperationProblems, responses::OperationFound, schemas},
    state::AppState,
};

/// An operation as clients see it.
#[derive(Debug, Serialize)]
pub(crate) struct Operation {
    id: String,
    status: Status,
    message_id: MessageId,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Problem>,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Pending,
    Succeeded,
    Failed,
    DeadLettered,
}

impl Operation {
    /// One that has not been applied yet.
    pub(crate) fn pending(id: OperationId) -> Self {
        Self::new(id, Status::Pending, None)
    }

    fn new(id: OperationId, status: Status, error: Option<Problem>) -> Self {
        Self { id: id.to_string(), status, message_id: id.message_id, error }
    }
}

/// Ask what became of a write
#[utoipa::path(
    get,
    path = "/api/operations/{op}",
    operation_id = "readOperation",
    tag = "operations",
    params(("op" = schemas::OperationId, Path, description = "From the `Location` of a 202")),
    responses((status = 200, response = inline(OperationFound)), OperationProblems),
)]
pub(crate) async fn get(
    State(app): State<Arc<AppState>>,
    PathParam(id): PathParam<OperationId>,
) -> Result<Response, ProblemResponse> {
    let operation = match app.store.operation(id).await? {
        OperationState::Pending => Operation::pending(id),
        OperationState::Succeeded => Operation::new(id, Status::Succeeded, None),
        OperationState::Expired => return Err(forgotten().into()),
        OperationState::Failed(Failure::DeadLettered) => {
            let problem = failure_problem(Failure::DeadLettered);
            Operation::new(id, Status::DeadLettered, Some(problem))
        }
        OperationState::Failed(failure) => {
            Operation::new(id, Status::Failed, Some(failure_problem(failure)))
        }
    };
    Ok(Json(operation).into_response())
}

fn forgotten() -> Problem {
    let detail =
        "the operation was issued more than 24 hours ago, and its outcome is not known any more";
    Problem::new(ProblemKind::OperationExpired, detail)
}
