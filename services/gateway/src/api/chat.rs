//! `GET /api/chat`.

use std::{sync::Arc, time::Duration};

use axum::{
    body::HttpBody,
    extract::{Request, State},
};
use contracts::{Problem, ProblemKind};

use crate::{
    error::HandlerResult,
    proxy::{Proxy, is_websocket_handshake, upgrade_required},
    state::AppState,
};

/// Subscribe to a message each second
///
/// The gateway connects the client to the broadcaster. A request without `Upgrade: websocket` is answered 426.
#[utoipa::path(
    get,
    path = "/api/chat",
    tag = "broadcast",
    responses(
        (
            status = 101,
            description = "The connection is a WebSocket. Each second it carries one text frame: a \
                           message sampled at random from the stored ones",
            headers(("Connection"), ("Upgrade"), ("Sec-WebSocket-Accept")),
        ),
    ),
)]
pub(crate) async fn chat(State(state): State<Arc<AppState>>, request: Request) -> HandlerResult {
    respond(&state.proxy, request).await
}

/// Responds to a handshake as the broadcaster does.
pub(crate) async fn respond(proxy: &Proxy, mut request: Request) -> HandlerResult {
    // Its bytes would be passed on as frames.
    if !request.body().is_end_stream() {
        let detail = "a WebSocket handshake must have no body; send frames after the response";
        return Err(Problem::new(ProblemKind::BadRequest, detail).into());
    }
    if !is_websocket_handshake(&request) {
        return Ok(upgrade_required());
    }
    Ok(proxy.pass_on(&mut request, Duration::ZERO).await?)
}
