//! `GET /api/chat`.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    response::Response,
};

use crate::{
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
pub(crate) async fn chat(State(app): State<Arc<AppState>>, request: Request) -> Response {
    app.tunnel.handle(request).await
}
