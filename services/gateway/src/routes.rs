//! Which path leads where, and what every answer has in common.

use std::{any::Any, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, Version, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use contracts::{Problem, ProblemKind};
use runtime::Health;
use store::Store;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

use crate::{
    answers::{self, ProblemAnswer},
    messages, operations,
    tunnel::Tunnel,
    writes::Writes,
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

/// The gateway's whole HTTP surface.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/api/messages", get(messages::list).post(messages::create))
        .route(
            "/api/messages/{id}",
            get(messages::read).put(messages::edit).delete(messages::delete),
        )
        .route("/api/operations/{op}", get(operations::read))
        .route("/api/chat", get(chat))
        .route("/livez", get(health))
        .route("/readyz", get(health))
        .fallback(unknown_path)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), close_while_draining))
        .with_state(app)
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

#[expect(clippy::needless_pass_by_value, reason = "the layer's signature")]
fn panicked(payload: Box<dyn Any + Send + 'static>) -> Response {
    let what = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a message");
    answers::internal(what).into_response()
}

/// While draining, clients are asked to come back on another connection, which the balancer then
/// leads to another gateway.
async fn close_while_draining(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Response {
    // HTTP/2 knows no such header; its connections are told to go away when the service closes.
    let http1 = request.version() < Version::HTTP_2;
    let response = next.run(request).await;
    if http1 && app.draining.is_cancelled() && response.status() != 101 {
        return answers::with_header(
            response,
            header::CONNECTION,
            HeaderValue::from_static("close"),
        );
    }
    response
}
