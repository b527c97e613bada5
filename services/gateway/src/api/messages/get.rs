//! `GET /api/messages/{id}`.

use std::sync::Arc;

use axum::{extract::State, http::HeaderMap};
use contracts::{Message, MessageId, ProblemKind};

use crate::{
    error::HandlerResult,
    http::{conditional, path::PathParam, responses},
    openapi::parameters::IfNoneMatchHeader,
    spans::RequestTrace,
    state::AppState,
};

/// Read a message
#[utoipa::path(
    get,
    path = "/api/messages/{id}",
    operation_id = "readMessage",
    tag = "messages",
    params(("id" = MessageId, Path, description = "Id of the message"), IfNoneMatchHeader),
    responses(
        (status = 200, description = "The message", body = Message, headers(("ETag"))),
        (status = 304, description = "The client already has this version", headers(("ETag"))),
    ),
)]
pub(crate) async fn get(
    State(state): State<Arc<AppState>>,
    PathParam(id): PathParam<MessageId>,
    trace: RequestTrace,
    headers: HeaderMap,
) -> HandlerResult {
    let stored = trace.find(state.store.find(id)).await?.ok_or(ProblemKind::MessageNotFound)?;
    if conditional::is_not_modified(&headers, &stored.version.to_string())? {
        return Ok(responses::not_modified(stored.version));
    }
    Ok(responses::message(&stored))
}
