//! The layers that every request passes, a file for each.

mod connection;
pub(crate) mod cors;
pub(crate) mod load_shed;
mod request_id;
mod trace;

use std::{sync::Arc, time::Instant};

use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use service::http::early_response;
use tracing::{Instrument, field};

use crate::{http::conditional::ReadPreconditions, state::AppState};
use connection::Connection;
use request_id::X_REQUEST_ID;

/// Serves a request with an id, a trace span, a log span and metrics, decides the preconditions of a
/// read, and says if its response is the last of the connection.
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
    let preconditions = ReadPreconditions::of(&request);
    let (request, connection) = Connection::watch(request);

    let response = match early_response(&request) {
        Some(response) => {
            // Its body is read, or not, as that of any other request.
            drop(request);
            response.map(Body::new)
        }
        None => next.run(request).instrument(log_span.clone()).await,
    };

    let response = match preconditions {
        Some(preconditions) => preconditions.apply(response),
        None => response,
    };
    let status = response.status();
    let route = route.as_ref().map(MatchedPath::as_str);
    state.requests.answered(&method, route, status, started.elapsed());
    log_span.in_scope(|| state.access_log.log(route, status, started.elapsed()));
    trace::end(trace_span, status);
    let response = ([(X_REQUEST_ID, request_id)], response).into_response();
    connection.close_if_needed(response, &state.draining).await
}
