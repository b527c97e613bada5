//! The layers that every request passes, a file for each.

mod access_log;
mod body_drain;
mod connection;
pub(crate) mod cors;
pub(crate) mod load_shed;
pub(crate) mod panic;
mod request_id;
mod trace;

use std::{sync::Arc, time::Instant};

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::Response,
};
use tracing::Instrument;

use crate::state::AppState;
use connection::Connection;

/// Gives a request its id, its log and trace spans and its metrics, and the connection its end.
///
/// One layer for all of them, since every request pays for it: `from_fn` boxes a future for each
/// layer, a call costs nothing. None of them waits for a response's body, so bodies may stream.
pub(crate) async fn observe(
    State(state): State<Arc<AppState>>,
    mut request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let request_id = request_id::assign(&mut request);
    let span = trace::start(&state.tracer, &mut request, route.as_ref(), &request_id);
    let log = access_log::span(&request, &request_id, span.as_ref());
    let (request, connection) = Connection::watch(request);

    let response = next.run(request).instrument(log.clone()).await;

    let status = response.status();
    let route = route.as_ref().map(MatchedPath::as_str);
    state.requests.answered(&method, route, status, started.elapsed());
    log.in_scope(|| tracing::debug!(status = status.as_u16(), "request completed"));
    trace::end(span, status);
    let response = request_id::add_to(response, request_id);
    connection.close_if_needed(response, &state.draining).await
}
