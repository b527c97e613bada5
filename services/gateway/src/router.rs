//! The paths, and the layers that requests to them pass.

use std::sync::Arc;

use axum::{Router, body::Body, http::Method, middleware::from_fn_with_state};
use contracts::ProblemKind;
use service::http::methods;
use tokio::sync::Semaphore;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::{OpenApi as _, openapi::OpenApi};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        chat, events, health,
        messages::{create, delete, edit, get, list},
        metadata, operations, problems,
    },
    auth::{
        Admission,
        admission::{Served, admit},
    },
    error::{self, ProblemResponse},
    http::middleware::{load_shed::shed_load, observe},
    openapi,
    state::AppState,
    web,
};

/// Returns the whole HTTP surface of the gateway. `max_requests` is the limit of `/api/messages`
/// and `/api/operations`.
pub(crate) fn router(
    state: AppState,
    admission: Admission,
    max_requests: usize,
) -> anyhow::Result<Router> {
    let state = Arc::new(state);
    let (api, document) = api(admission, max_requests);
    let router = api
        .merge(web::routes(&document)?)
        .fallback(async || ProblemResponse::from(ProblemKind::UnknownPath))
        .method_not_allowed_fallback(async |method: Method| {
            methods::unsupported(&method).map(Body::new)
        })
        .layer(CatchPanicLayer::custom(error::panicked));
    Ok(router.layer(from_fn_with_state(Arc::clone(&state), observe)).with_state(state))
}

/// Returns the API and the document that describes it. A group of routes has its own load limit. What is not behind the
/// layer that admits requests is open to all.
pub(crate) fn api(admission: Admission, max_requests: usize) -> (Router<Arc<AppState>>, OpenApi) {
    let admission = Arc::new(admission);
    let admitting = |served| from_fn_with_state((Arc::clone(&admission), served), admit);
    let resources = OpenApiRouter::new()
        .routes(routes!(list::list, create::create))
        .routes(routes!(get::get, edit::edit, delete::delete))
        .routes(routes!(operations::get))
        .route_layer(admitting(Served::Resources))
        .route_layer(from_fn_with_state(Arc::new(Semaphore::new(max_requests)), shed_load));
    // The proxy has its own limit.
    let broadcast =
        OpenApiRouter::new().routes(routes!(chat::chat)).route_layer(admitting(Served::Chat));
    let events =
        OpenApiRouter::new().routes(routes!(events::events)).route_layer(admitting(Served::Events));
    // No limit: an overloaded gateway must still answer its probes.
    let health = OpenApiRouter::new()
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(health::metrics));
    let problems =
        OpenApiRouter::new().routes(routes!(problems::list)).routes(routes!(problems::explain));
    let metadata = OpenApiRouter::new().routes(routes!(metadata::get));
    let (router, document) = OpenApiRouter::with_openapi(openapi::Base::openapi())
        .merge(resources)
        .merge(broadcast)
        .merge(events)
        .merge(metadata)
        .merge(problems)
        .merge(health)
        .split_for_parts();
    (router, openapi::complete(document))
}

/// Returns the OpenAPI document.
pub(crate) fn document() -> OpenApi {
    api(Admission::default(), 1).1
}
