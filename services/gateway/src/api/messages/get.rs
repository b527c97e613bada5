//! `GET /api/messages/{id}`.

use std::sync::Arc;

use axum::{extract::State, http::HeaderMap};
use contracts::MessageId;

use crate::{
    error::{HandlerResult, message_not_found},
    http::{conditional, path::PathParam, responses},
    openapi::{
        parameters::ReadHeaders,
        problems::ReadProblems,
        responses::{Found, NotModified},
        schemas,
    },
    spans::RequestTrace,
    state::AppState,
};

/// Read a message
#[utoipa::path(
    get,
    path = "/api/messages/{id}",
    operation_id = "readMessage",
    tag = "messages",
    params(("id" = schemas::MessageId, Path, description = "The message's id"), ReadHeaders),
    responses(
        (status = 200, response = inline(Found)),
        (status = 304, response = inline(NotModified)),
        ReadProblems,
    ),
)]
pub(crate) async fn get(
    State(state): State<Arc<AppState>>,
    PathParam(id): PathParam<MessageId>,
    trace: RequestTrace,
    headers: HeaderMap,
) -> HandlerResult {
    let stored = trace.find(state.store.find(id)).await?.ok_or_else(message_not_found)?;
    if conditional::is_not_modified(&headers, stored.version)? {
        return Ok(responses::not_modified(stored.version));
    }
    Ok(responses::message(&stored))
}
