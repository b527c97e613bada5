//! `GET /api/chat`.

use std::sync::Arc;

use axum::extract::{Request, State};

use crate::{
    error::HandlerResult,
    openapi::{
        problems::ChatProblems,
        responses::{SwitchingProtocols, ToBroadcaster},
    },
    state::AppState,
};

/// Subscribe to a message each second
///
/// With `Upgrade: websocket` the connection is joined to the broadcaster's; without, the broadcaster
/// is where `Location` says.
#[utoipa::path(
    get,
    path = "/api/chat",
    operation_id = "chat",
    tag = "broadcast",
    responses(
        (status = 101, response = inline(SwitchingProtocols)),
        (status = 307, response = inline(ToBroadcaster)),
        ChatProblems,
    ),
)]
pub(crate) async fn chat(State(state): State<Arc<AppState>>, request: Request) -> HandlerResult {
    state.tunnel.handle(request).await
}
