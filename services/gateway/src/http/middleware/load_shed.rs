//! Load shedding: refusal of requests beyond a limit, before anything of them is read.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use contracts::ProblemKind;
use tokio::sync::Semaphore;

use crate::error::ProblemResponse;

/// Refuses requests beyond the limit. Each group of routes has its own, so that a flood of one kind
/// of request does not shut out another. A request counts until its response's head; a body that
/// streams needs a limit of its own.
pub(crate) async fn shed_load(
    State(limit): State<Arc<Semaphore>>,
    request: Request,
    next: Next,
) -> Response {
    let Ok(_permit) = limit.try_acquire() else {
        return ProblemResponse::from(ProblemKind::Overloaded).into_response();
    };
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use axum::{
        Router,
        body::Body,
        http::{StatusCode, header},
        middleware::from_fn_with_state,
        routing::get,
    };
    use tokio::sync::Notify;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_request_too_many_is_refused_at_once_and_later_ones_are_served() {
        let (started, end) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let handler = {
            let (started, end) = (Arc::clone(&started), Arc::clone(&end));
            move || async move {
                started.notify_one();
                end.notified().await;
            }
        };
        let limit = || from_fn_with_state(Arc::new(Semaphore::new(1)), shed_load);
        let other = Router::new().route("/other", get(async || {})).route_layer(limit());
        let router = Router::new().route("/", get(handler)).route_layer(limit()).merge(other);
        let ask = |path: &str| {
            let request = Request::builder().uri(path).body(Body::empty()).unwrap();
            router.clone().oneshot(request)
        };
        let first = tokio::spawn(ask("/"));
        started.notified().await;
        let refused = ask("/").await.unwrap();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(refused.headers().contains_key(header::RETRY_AFTER));
        let other = ask("/other").await.unwrap();
        assert_eq!(other.status(), StatusCode::OK, "another group has its own limit");
        end.notify_one();
        assert_eq!(first.await.unwrap().unwrap().status(), StatusCode::OK);
        end.notify_one();
        assert_eq!(ask("/").await.unwrap().status(), StatusCode::OK);
    }
}
