//! Which path leads where, and what every answer has in common.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::get,
};
use contracts::{Problem, ProblemKind};
use runtime::Health;
use store::Store;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

use crate::{
    answers::ProblemAnswer, config::AllowedOrigin, messages, middleware, operations,
    tunnel::Tunnel, writes::Writes,
};

/// What the handlers share.
pub(crate) struct App {
    pub(crate) store: Store,
    pub(crate) writes: Writes,
    pub(crate) health: Health,
    pub(crate) tunnel: Tunnel,
    pub(crate) write_wait: Duration,
    pub(crate) draining: CancellationToken,
}

/// The gateway's whole HTTP surface, for `max_requests` at once.
pub(crate) fn router(app: App, cors_origins: &[AllowedOrigin], max_requests: usize) -> Router {
    let app = Arc::new(app);
    let requests = Arc::new(Semaphore::new(max_requests));
    let router = Router::new()
        .route("/api/messages", get(messages::list).post(messages::create))
        .route(
            "/api/messages/{id}",
            get(messages::read).put(messages::edit).delete(messages::delete),
        )
        .route("/api/operations/{op}", get(operations::read))
        .route("/api/chat", get(chat))
        .route_layer(from_fn_with_state(requests, middleware::shed_load))
        // An overloaded gateway still says that it lives.
        .route("/livez", get(health))
        .route("/readyz", get(health))
        .fallback(unknown_path)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(CatchPanicLayer::custom(middleware::panicked));
    let router =
        if cors_origins.is_empty() { router } else { router.layer(middleware::cors(cors_origins)) };
    router.layer(from_fn_with_state(Arc::clone(&app), middleware::observe)).with_state(app)
}

async fn health(State(app): State<Arc<App>>, request: Request) -> Response {
    match app.health.answer(request.method(), request.uri().path()) {
        Some(answer) => answer.map(Body::new),
        None => unknown_path().await,
    }
}

async fn chat(State(app): State<Arc<App>>, request: Request) -> Response {
    app.tunnel.handle(request).await
}

async fn unknown_path() -> Response {
    let detail = "there is nothing at this path";
    ProblemAnswer(Problem::new(ProblemKind::UnknownPath, detail)).into_response()
}

async fn method_not_allowed() -> Response {
    let detail = "this path does not take this method; see Allow";
    ProblemAnswer(Problem::new(ProblemKind::MethodNotAllowed, detail)).into_response()
}
