//! `GET /api/operations/{op}`: the status of a write that was answered 202.

use std::sync::Arc;

use axum::{Json, extract::State, response::IntoResponse};
use contracts::{Failure, MessageId, OperationId, Problem};
use serde::Serialize;
use store::OperationState;

use crate::{
    error::{self, HandlerResult},
    http::path::PathParam,
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
    /// An operation that has not been applied yet.
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
    State(state): State<Arc<AppState>>,
    PathParam(id): PathParam<OperationId>,
) -> HandlerResult {
    let (status, failure) = match state.store.operation(id).await? {
        OperationState::Expired => return Err(error::operation_expired().into()),
        OperationState::Pending => (Status::Pending, None),
        OperationState::Succeeded => (Status::Succeeded, None),
        OperationState::Failed(Failure::DeadLettered) => {
            (Status::DeadLettered, Some(Failure::DeadLettered))
        }
        OperationState::Failed(failure) => (Status::Failed, Some(failure)),
    };
    let error = failure.map(error::command_failed);
    Ok(Json(Operation::new(id, status, error)).into_response())
}
