//! `GET /api/messages`.

use std::sync::Arc;

use auth::rules::Action;
use axum::extract::{RawQuery, State};
use contracts::Message;

use crate::{
    auth::RequestCaller,
    error::HandlerResult,
    http::{
        query::{list_query, monitor_link, next_link},
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
    caller: RequestCaller,
    trace: RequestTrace,
    RawQuery(query): RawQuery,
) -> HandlerResult {
    let query = list_query(query.as_deref())?;
    caller.may(Action::List, &query.from_user_id, &query.to_user_id)?;
    // Before the list, so that a change that it does not show is an event. On the first page only: who follows from that of
    // a later one misses what has changed on the pages before.
    let log_end = match query.after {
        None => state.log_end.get(&state.store).await,
        Some(_) => None,
    };
    let page = trace.find(state.store.list(&query)).await?;
    let next = page.next.map(|next| next_link(&query, next));
    let monitor = log_end.map(|log_end| monitor_link(&query, caller.user(), log_end));
    Ok(responses::page(&page.messages, [next, monitor]))
}
