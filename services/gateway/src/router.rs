//! Which path leads where, and what every answer has in common.

use std::sync::Arc;

use anyhow::Context;
use axum::{
    Router,
    http::{HeaderMap, Uri},
    middleware::from_fn_with_state,
    routing::get,
};
use tokio::sync::Semaphore;
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
    http::{
        middleware,
        responses::{method_not_allowed, unknown_path},
    },
    openapi,
    state::AppState,
    web::{assets::Asset, docs::Docs},
};

/// The gateway's whole HTTP surface, for `max_requests` at once.
pub(crate) fn router(
    app: AppState,
    cors_origins: &[AllowedOrigin],
    max_requests: usize,
) -> anyhow::Result<Router> {
    let app = Arc::new(app);
    let requests = Arc::new(Semaphore::new(max_requests));
    let (api, document) = api(requests);
    let router = api
        .merge(documentation(&document)?)
        .fallback(unknown_path)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(CatchPanicLayer::custom(middleware::panicked));
    let router =
        if cors_origins.is_empty() { router } else { router.layer(middleware::cors(cors_origins)) };
    Ok(router.layer(from_fn_with_state(Arc::clone(&app), middleware::observe)).with_state(app))
}

/// The API, and the document that describes it.
pub(crate) fn api(requests: Arc<Semaphore>) -> (Router<Arc<AppState>>, OpenApi) {
    let (router, document) = OpenApiRouter::with_openapi(openapi::Base::openapi())
        .routes(routes!(list::list, create::create))
        .routes(routes!(get::get, edit::edit, delete::delete))
        .routes(routes!(operations::get))
        .routes(routes!(chat::chat))
        .route_layer(from_fn_with_state(requests, middleware::shed_load))
        // An overloaded gateway still says that it lives.
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(health::metrics))
        .split_for_parts();
    (router, openapi::complete(document))
}

/// The OpenAPI document.
pub(crate) fn document() -> OpenApi {
    api(Arc::new(Semaphore::new(0))).1
}

/// `/openapi.json` for programs, and `/docs` for people.
fn documentation(document: &OpenApi) -> anyhow::Result<Router<Arc<AppState>>> {
    let json = document.to_json().context("the OpenAPI document cannot be serialized")?;
    let document = Asset::new("application/json", json);
    let docs = Arc::new(Docs::new()?);
    let page = docs.page().clone();
    let part = async move |uri: Uri, headers: HeaderMap| match uri
        .path()
        .rsplit('/')
        .next()
        .and_then(|name| docs.part(name))
    {
        Some(part) => part.answer(&headers),
        None => unknown_path().await,
    };
    Ok(Router::new()
        .route("/openapi.json", get(async move |headers: HeaderMap| document.answer(&headers)))
        .route("/docs", get(async move |headers: HeaderMap| page.answer(&headers)))
        .route("/docs/{part}", get(part)))
}
