//! `GET /api/messages/{id}`.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
};
use contracts::{Message, MessageId};

use super::Answer;
use crate::{
    http::{
        conditional::has_version,
        path::PathParam,
        responses::{self, message_not_found},
    },
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
    State(app): State<Arc<AppState>>,
    PathParam(id): PathParam<MessageId>,
    place: RequestTrace,
    headers: HeaderMap,
) -> Answer {
    let stored = place.find(app.store.find(id)).await?.ok_or_else(message_not_found)?;
    if has_version(&headers, stored.version)? {
        return Ok(responses::not_modified(stored.version));
    }
    Ok(responses::message(StatusCode::OK, &stored))
}
