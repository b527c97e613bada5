//! `/livez`, `/readyz` and `/metrics`.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    response::Response,
};

use crate::{
    http::responses::unknown_path,
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
pub(crate) async fn live(app: State<Arc<AppState>>, request: Request) -> Response {
    health(app, request).await
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
pub(crate) async fn ready(app: State<Arc<AppState>>, request: Request) -> Response {
    health(app, request).await
}

/// What the process measures, for Prometheus
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "metrics",
    tag = "health",
    responses((status = 200, response = inline(Measured))),
)]
pub(crate) async fn metrics(app: State<Arc<AppState>>, request: Request) -> Response {
    health(app, request).await
}

async fn health(State(app): State<Arc<AppState>>, request: Request) -> Response {
    match app.health.answer(request.method(), request.uri().path()) {
        Some(answer) => answer.map(Body::new),
        None => unknown_path().await,
    }
}
