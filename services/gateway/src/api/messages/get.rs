//! `GET /api/messages/{id}`.

use std::sync::Arc;

use axum::extract::State;
use contracts::{Message, MessageId, ProblemKind};

use crate::{
    error::HandlerResult,
    http::{path::PathParam, responses},
    spans::RequestTrace,
    state::AppState,
};

/// Read a message
#[utoipa::path(
    get,
    path = "/api/messages/{id}",
    operation_id = "readMessage",
    tag = "messages",
    params(("id" = MessageId, Path, description = "Id of the message")),
    responses((status = 200, description = "The message", body = Message, headers(("ETag")))),
)]
pub(crate) async fn get(
    State(state): State<Arc<AppState>>,
    PathParam(id): PathParam<MessageId>,
    trace: RequestTrace,
) -> HandlerResult {
    let stored = trace.find(state.store.find(id)).await?.ok_or(ProblemKind::MessageNotFound)?;
    Ok(responses::message(&stored))
}
