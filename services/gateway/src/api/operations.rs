//! `GET /api/operations/{op}`: the status of a write that was answered 202.

use std::sync::Arc;

use auth::rules::{Action, Relation};
use axum::{Json, extract::State, response::IntoResponse};
use contracts::{Failure, MessageId, OperationId, Problem, ProblemKind};
use serde::Serialize;
use store::OperationState;
use utoipa::ToSchema;

use crate::{
    auth::RequestCaller,
    error::{self, HandlerResult},
    http::path::PathParam,
    openapi::schemas,
    state::AppState,
};

/// A write as its client sees it after a 202.
#[derive(Debug, Serialize, ToSchema)]
#[schema(examples(json!({
    "id": "0199f0c16a3e7c559d0e2f4b8a6c1e120199f0c16a3e7c559d0e2f4b8a6c1e11",
    "status": "succeeded",
    "message_id": "0199f0c1-6a3e-7c55-9d0e-2f4b8a6c1e11",
})))]
pub(crate) struct Operation {
    #[schema(value_type = schemas::OperationId)]
    id: String,
    #[schema(inline)]
    status: Status,
    message_id: MessageId,
    /// Present if the write failed: the problem that the write would have been answered with.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Problem)]
    error: Option<Problem>,
}

/// Status of a write. A `dead_lettered` one changes only if an operator replays it.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
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

/// Read the outcome of a write
#[utoipa::path(
    get,
    path = "/api/operations/{op}",
    operation_id = "readOperation",
    tag = "operations",
    params(("op" = schemas::OperationId, Path, description = "From the `Location` of a 202")),
    responses((
        status = 200,
        description = "The operation",
        body = Operation,
        links(("message" = (
            operation_id = "readMessage",
            parameters(("id" = "$response.body#/message_id")),
        ))),
    )),
)]
pub(crate) async fn get(
    State(state): State<Arc<AppState>>,
    caller: RequestCaller,
    PathParam(id): PathParam<OperationId>,
) -> HandlerResult {
    let relation = state
        .operation_macs
        .as_ref()
        .map_or(Relation::Stranger, |macs| macs.relation(id, caller.get()));
    caller.may_related(Action::ReadOperation, relation)?;
    // By a scope, it may have changed anybody's messages, or may read them.
    let by_scope = |action: Action| caller.may_related(action, Relation::Stranger).is_ok();
    let requester =
        caller.user().filter(|_| !by_scope(Action::Delete) && !by_scope(Action::ReadOperation));
    let (status, error) = match state.store.operation(id, requester).await? {
        OperationState::NotIssued => return Err(ProblemKind::OperationNotFound.into()),
        OperationState::Expired => return Err(ProblemKind::OperationExpired.into()),
        OperationState::Pending => (Status::Pending, None),
        OperationState::Succeeded => (Status::Succeeded, None),
        OperationState::Failed(failure) => {
            let dead_lettered = failure == Failure::DeadLettered;
            let status = if dead_lettered { Status::DeadLettered } else { Status::Failed };
            (status, Some(error::command_failed(failure)))
        }
    };
    Ok(Json(Operation::new(id, status, error)).into_response())
}
