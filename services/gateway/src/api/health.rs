//! `/livez`, `/readyz` and `/metrics`.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
};

use crate::{
    error::{HandlerResult, unknown_path},
    openapi::responses::{Alive, Measured, NotReady, Ready},
    state::AppState,
};

/// Whether the process lives
#[utoipa::path(
    get,
    path = "/livez",
    operation_id = "live",
    tag = "health",
    responses((status = 200, response = inline(Alive))),
)]
pub(crate) async fn live(State(state): State<Arc<AppState>>, request: Request) -> HandlerResult {
    health(&state, &request)
}

/// Whether to send the process requests
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "ready",
    tag = "health",
    responses(
        (status = 200, response = inline(Ready)),
        (status = 503, response = inline(NotReady)),
    ),
)]
pub(crate) async fn ready(State(state): State<Arc<AppState>>, request: Request) -> HandlerResult {
    health(&state, &request)
}

/// What the process measures, for Prometheus
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "metrics",
    tag = "health",
    responses((status = 200, response = inline(Measured))),
)]
pub(crate) async fn metrics(State(state): State<Arc<AppState>>, request: Request) -> HandlerResult {
    health(&state, &request)
}

fn health(state: &AppState, request: &Request) -> HandlerResult {
    let answer = state.health.answer(request.method(), request.uri().path());
    Ok(answer.ok_or_else(unknown_path)?.map(Body::new))
}
