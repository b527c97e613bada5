//! `GET /.well-known/oauth-protected-resource` (RFC 9728): where clients get tokens for this API.

use std::sync::Arc;

use axum::{
    extract::State,
    http::header::{CACHE_CONTROL, CONTENT_TYPE},
    response::IntoResponse,
};
use contracts::ProblemKind;

use crate::{error::HandlerResult, openapi::schemas::ResourceMetadata, state::AppState};

/// Find out who issues tokens for this API
///
/// A challenge (`WWW-Authenticate`) links to it. 404 where no tokens are needed.
#[utoipa::path(
    get,
    path = "/.well-known/oauth-protected-resource",
    operation_id = "readResourceMetadata",
    tag = "authentication",
    responses((
        status = 200,
        description = "The metadata of a protected resource (RFC 9728)",
        body = ResourceMetadata,
        headers(("Cache-Control")),
    )),
)]
pub(crate) async fn get(State(state): State<Arc<AppState>>) -> HandlerResult {
    let metadata = state.resource_metadata.clone().ok_or(ProblemKind::UnknownPath)?;
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "max-age=3600")];
    Ok((headers, metadata).into_response())
}
