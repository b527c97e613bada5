//! `/livez`, `/readyz` and `/metrics`.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
};

use contracts::ProblemKind;

use crate::{
    error::HandlerResult,
    openapi::schemas::{Liveness, Readiness},
    state::AppState,
};

/// Check that the process is alive
#[utoipa::path(
    get,
    path = "/livez",
    tag = "health",
    responses((status = 200, description = "The process is alive", body = Liveness)),
)]
pub(crate) async fn live(State(state): State<Arc<AppState>>, request: Request) -> HandlerResult {
    health(&state, &request)
}

/// Check that the process can take requests
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "health",
    responses(
        (
            status = 200,
            description = "Send it requests; `degraded` if some of them fail",
            body = Readiness,
        ),
        (status = 503, description = "Send requests elsewhere", body = Readiness),
    ),
)]
pub(crate) async fn ready(State(state): State<Arc<AppState>>, request: Request) -> HandlerResult {
    health(&state, &request)
}

/// Read metrics, for Prometheus
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "health",
    responses((status = 200, description = "Prometheus text format, version 0.0.4", body = String)),
)]
pub(crate) async fn metrics(State(state): State<Arc<AppState>>, request: Request) -> HandlerResult {
    health(&state, &request)
}

fn health(state: &AppState, request: &Request) -> HandlerResult {
    let response = state.health.answer(request.method(), request.uri().path());
    Ok(response.ok_or(ProblemKind::UnknownPath)?.map(Body::new))
}
