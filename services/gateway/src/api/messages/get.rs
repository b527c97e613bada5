//! `GET /api/messages/{id}`.

use std::sync::Arc;

use auth::rules::Action;
use axum::extract::State;
use contracts::{Message, MessageId, ProblemKind, VersionedMessage};

use crate::{
    auth::RequestCaller,
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
    caller: RequestCaller,
    PathParam(id): PathParam<MessageId>,
    trace: RequestTrace,
) -> HandlerResult {
    caller.may_unread(Action::Read)?;
    let stored = trace.find(state.store.find(id)).await?.ok_or(ProblemKind::MessageNotFound)?;
    let VersionedMessage { message, .. } = &stored;
    caller.may(Action::Read, &message.from_user_id, &message.to_user_id)?;
    Ok(responses::message(&stored))
}
