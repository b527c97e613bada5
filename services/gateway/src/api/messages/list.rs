//! `GET /api/messages`.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use contracts::Message;

use crate::{
    error::HandlerResult,
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
    State(state): State<Arc<AppState>>,
    trace: RequestTrace,
    RawQuery(query): RawQuery,
) -> HandlerResult {
    let query = list_query(query.as_deref())?;
    let page = trace.find(state.store.list(&query)).await?;
    let link = page.next.map(|next| next_link(&query, next));
    Ok(responses::page(&page.messages, link))
}
