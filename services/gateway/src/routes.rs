//! Which path leads where, and what every answer has in common.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, Uri},
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::get,
};
use contracts::{Problem, ProblemKind};
use service::Health;
use store::Store;
use telemetry::logging::AccessLog;
use telemetry::metrics::Requests;
use telemetry::traces::Tracer;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    config::AllowedOrigin,
    docs::Docs,
    messages, middleware, openapi,
    openapi::{
        problems::ChatProblems,
        responses::{Alive, Measured, NotReady, Ready, SwitchingProtocols, ToBroadcaster},
    },
    operations,
    responses::ProblemResponse,
    submit::CommandSubmitter,
    tunnel::Tunnel,
};

/// What the handlers share.
pub(crate) struct App {
    pub(crate) store: Store,
    pub(crate) writes: CommandSubmitter,
    pub(crate) health: Health,
    pub(crate) requests: Requests,
    pub(crate) access_log: AccessLog,
    pub(crate) traces: Tracer,
    pub(crate) tunnel: Tunnel,
    pub(crate) write_wait: Duration,
    pub(crate) draining: CancellationToken,
}

/// The gateway's whole HTTP surface, for `max_requests` at once.
pub(crate) fn router(
    app: App,
    cors_origins: &[AllowedOrigin],
    max_requests: usize,
) -> anyhow::Result<Router> {
    let app = Arc::new(app);
    let requests = Arc::new(Semaphore::new(max_requests));
    let (api, document) = api(requests);
    let router = api
        .merge(documentation(document)?)
        .fallback(unknown_path)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(CatchPanicLayer::custom(middleware::panicked));
    let router =
        if cors_origins.is_empty() { router } else { router.layer(middleware::cors(cors_origins)) };
    Ok(router.layer(from_fn_with_state(Arc::clone(&app), middleware::observe)).with_state(app))
}

/// The API, and the document that describes it.
pub(crate) fn api(requests: Arc<Semaphore>) -> (Router<Arc<App>>, OpenApi) {
    OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(messages::list, messages::create))
        .routes(routes!(messages::read, messages::edit, messages::delete))
        .routes(routes!(operations::read))
        .routes(routes!(chat))
        .route_layer(from_fn_with_state(requests, middleware::shed_load))
        // An overloaded gateway still says that it lives.
        .routes(routes!(live))
        .routes(routes!(ready))
        .routes(routes!(measured))
        .split_for_parts()
}

/// `/openapi.json` for programs, and `/docs` for people.
fn documentation(document: OpenApi) -> anyhow::Result<Router<Arc<App>>> {
    let document = openapi::finish(document)?;
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

/// Whether the process lives
#[utoipa::path(
    get,
    path = "/livez",
    operation_id = "live",
    tag = "health",
    responses((status = 200, response = inline(Alive))),
)]
async fn live(app: State<Arc<App>>, request: Request) -> Response {
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
async fn ready(app: State<Arc<App>>, request: Request) -> Response {
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
async fn measured(app: State<Arc<App>>, request: Request) -> Response {
    health(app, request).await
}

async fn health(State(app): State<Arc<App>>, request: Request) -> Response {
    match app.health.answer(request.method(), request.uri().path()) {
        Some(answer) => answer.map(Body::new),
        None => unknown_path().await,
    }
}

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
async fn chat(State(app): State<Arc<App>>, request: Request) -> Response {
    app.tunnel.handle(request).await
}

async fn unknown_path() -> Response {
    let detail = "there is nothing at this path";
    ProblemResponse(Problem::new(ProblemKind::UnknownPath, detail)).into_response()
}

async fn method_not_allowed() -> Response {
    let detail = "this path does not take this method; see Allow";
    ProblemResponse(Problem::new(ProblemKind::MethodNotAllowed, detail)).into_response()
}
