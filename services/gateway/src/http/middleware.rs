//! The layers that every request passes, a file for each.

mod connection;
pub(crate) mod cors;
pub(crate) mod load_shed;
mod request_id;
mod trace;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    http::header,
    middleware::Next,
    response::{IntoResponse, Response},
};
use service::http::{ReadPreconditions, early_response};
use tracing::{Instrument, field};

use crate::state::AppState;
use connection::Connection;
use cors::Cors;
use request_id::X_REQUEST_ID;

/// Time for which a request waited because its client asked for that, among the extensions of its response. Metrics and
/// logs leave it out: it would look as if the gateway were slow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waited(pub(crate) Duration);

/// Serves a request with an id, a trace span, a log span and metrics, holds it to the rules of HTTP,
/// decides the preconditions of a read, adds the headers of CORS, and says if its response is the
/// last of the connection.
///
/// One layer does all of it, because every request pays for a layer: `from_fn` boxes a future for
/// each, while a call is free. Nothing here waits for a response's body, so that bodies can stream.
pub(crate) async fn observe(
    State(state): State<Arc<AppState>>,
    mut request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let request_id = request_id::assign(&mut request);
    let trace_span = trace::start(&state.tracer, &mut request, route.as_ref(), &request_id);
    // The fields that all log lines of a request share.
    let log_span = tracing::info_span!(
        "request",
        request.id = request_id.to_str().unwrap_or_default(),
        method = %request.method(),
        path = request.uri().path(),
        trace_id = trace_span.as_ref().map(|span| field::display(span.trace_id())),
    );
    let (request, connection) = Connection::watch(request);
    let response = match &state.cors {
        Some(cors) => {
            respond_across_origins(cors, request, next).instrument(log_span.clone()).await
        }
        None => respond(request, next).instrument(log_span.clone()).await,
    };
    let status = response.status();
    let route = route.as_ref().map(MatchedPath::as_str);
    let waited = response.extensions().get().map_or(Duration::ZERO, |Waited(waited)| *waited);
    let took = started.elapsed().saturating_sub(waited);
    state.requests.answered(&method, route, status, took);
    log_span.in_scope(|| state.access_log.log(route, status, took));
    trace::end(trace_span, status);
    let response = ([(X_REQUEST_ID, request_id)], response).into_response();
    connection.close_if_needed(response, &state.draining).await
}

/// Returns the response by the rules that hold for every request. Its body is dropped unread if one is broken.
async fn respond(request: Request, next: Next) -> Response {
    if let Some(refusal) = early_response(&request) {
        return refusal.map(Body::new);
    }
    let preconditions = ReadPreconditions::of(&request);
    let response = next.run(request).await;
    let refusal = preconditions.and_then(|it| it.refuse(&response));
    refusal.map_or(response, |refusal| refusal.map(Body::new))
}

/// Does the same for pages of other origins, which must be able to read refusals, too.
async fn respond_across_origins(cors: &Cors, request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    if cors::is_preflight(&request) && early_response(&request).is_none() {
        return cors.preflight(request).await;
    }
    let response = respond(request, next).await;
    cors.allow(origin, response).await
}
