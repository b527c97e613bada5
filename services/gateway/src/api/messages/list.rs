//! `GET /api/messages`.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use contracts::Message;

use super::Answer;
use crate::{
    http::{
        query::{list_query, next_link},
        responses,
    },
    openapi::parameters::ListQuery,
    spans::RequestTrace,
    state::AppState,
};

/// List the messages of a conversation, newest first
#[utoipa::path(
    get,
    path = "/api/messages",
    operation_id = "listMessages",
    tag = "messages",
    params(ListQuery),
    responses((
        status = 200,
        description = "A page of messages, newest first",
        body = Vec<Message>,
        headers(("Link")),
    )),
)]
pub(crate) async fn list(
    State(app): State<Arc<AppState>>,
    place: RequestTrace,
    RawQuery(query): RawQuery,
) -> Answer {
    let query = list_query(query.as_deref())?;
    let page = place.find(app.store.list(&query)).await?;
    let link = page.next.map(|next| next_link(&query, next));
    Ok(responses::list(&page.messages, link))
}
