//! The paths, and the layers that requests to them pass.

use std::sync::Arc;

use anyhow::Context;
use axum::{
    Router,
    http::{HeaderMap, Uri},
    middleware::from_fn_with_state,
    routing::get,
};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::{OpenApi as _, openapi::OpenApi};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        chat, health,
        messages::{create, delete, edit, get, list},
        operations,
    },
    config::AllowedOrigin,
    error::{ProblemResponse, method_not_allowed, unknown_path},
    http::middleware::{
        cors,
        load_shed::{LoadLimit, shed_load},
        observe, panic,
    },
    openapi,
    state::AppState,
    web::{assets::Asset, docs::Docs},
};

/// Returns the whole HTTP surface of the gateway. `max_requests` is the limit of `/api/messages`
/// and `/api/operations`.
pub(crate) fn router(
    state: AppState,
    cors_origins: &[AllowedOrigin],
    max_requests: usize,
) -> anyhow::Result<Router> {
    let state = Arc::new(state);
    let (api, document) = api(max_requests);
    let router = api
        .merge(documentation(&document)?)
        .fallback(async || ProblemResponse::from(unknown_path()))
        .method_not_allowed_fallback(async || ProblemResponse::from(method_not_allowed()))
        .layer(CatchPanicLayer::custom(panic::respond));
    let router =
        if cors_origins.is_empty() { router } else { router.layer(cors::layer(cors_origins)) };
    Ok(router.layer(from_fn_with_state(Arc::clone(&state), observe)).with_state(state))
}

/// Returns the API and the document that describes it. A group of routes has its own load limit.
pub(crate) fn api(max_requests: usize) -> (Router<Arc<AppState>>, OpenApi) {
    let resources = OpenApiRouter::new()
        .routes(routes!(list::list, create::create))
        .routes(routes!(get::get, edit::edit, delete::delete))
        .routes(routes!(operations::get))
        .route_layer(from_fn_with_state(LoadLimit::new(max_requests), shed_load));
    // The tunnel has its own limit.
    let broadcast = OpenApiRouter::new().routes(routes!(chat::chat));
    // No limit: an overloaded gateway must still answer its probes.
    let health = OpenApiRouter::new()
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(health::metrics));
    let (router, document) = OpenApiRouter::with_openapi(openapi::Base::openapi())
        .merge(resources)
        .merge(broadcast)
        .merge(health)
        .split_for_parts();
    (router, openapi::complete(document))
}

/// Returns the OpenAPI document.
pub(crate) fn document() -> OpenApi {
    api(1).1
}

/// Returns `/openapi.json` for programs and `/docs` for people.
fn documentation(document: &OpenApi) -> anyhow::Result<Router<Arc<AppState>>> {
    let json = document.to_json().context("the OpenAPI document cannot be serialized")?;
    let document = Asset::new("application/json", json);
    let docs = Arc::new(Docs::new()?);
    let page = docs.page().clone();
    let part = async move |uri: Uri, headers: HeaderMap| {
        let name = uri.path().rsplit('/').next().unwrap_or_default();
        let part = docs.part(name).ok_or_else(unknown_path)?;
        Ok::<_, ProblemResponse>(part.respond(&headers))
    };
    Ok(Router::new()
        .route("/openapi.json", get(async move |headers: HeaderMap| document.respond(&headers)))
        .route("/docs", get(async move |headers: HeaderMap| page.respond(&headers)))
        .route("/docs/{part}", get(part)))
}
