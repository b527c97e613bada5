//! `GET /api/events`.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::{Body, HttpBody},
    extract::{Request, State},
    http::header,
    response::{IntoResponse, Response},
};
use contracts::{EventPosition, Problem, ProblemKind};
use service::{
    OriginPattern,
    http::{event_stream, fields::Fields, prefer::Preference},
    origin,
};
use tokio::time::Instant;

use crate::{
    error::RETRY_AFTER,
    http::middleware::Waited,
    openapi::{
        parameters::{EventHeaders, EventQuery},
        schemas::EventPage,
    },
    proxy::{Proxy, is_websocket_handshake},
    state::AppState,
};

/// Follow what happens to a user's messages
///
/// Each change of a message that the user has sent or received is an event: of `Accept: text/event-stream`, of a WebSocket
/// (`Upgrade: websocket`), or else of a JSON page. Every event has a position, from which any of the three resumes.
#[utoipa::path(
    get,
    path = "/api/events",
    operation_id = "followEvents",
    tag = "events",
    params(EventQuery, EventHeaders),
    responses(
        (
            status = 101,
            description = "The connection is a WebSocket, with one text frame for each event",
            headers(("Connection"), ("Upgrade"), ("Sec-WebSocket-Accept")),
        ),
        (
            status = 200,
            description = "An event stream, which ends with the connection; or a page of events, at once or, as `Prefer` \
                           asks, when there is one",
            content(
                (String = "text/event-stream"),
                (EventPage = "application/json"),
            ),
            headers(("Cache-Control"), ("Preference-Applied")),
        ),
    ),
)]
pub(crate) async fn events(State(state): State<Arc<AppState>>, request: Request) -> Response {
    respond(&state.proxy, &state.origins, request).await
}

/// Responds to pages of the same origin and of these.
pub(crate) async fn respond(
    proxy: &Proxy,
    origins: &[OriginPattern],
    mut request: Request,
) -> Response {
    let response = pass_on(proxy, origins, &mut request).await;
    response.unwrap_or_else(|problem| {
        event_stream::refusal(request.headers(), &problem, RETRY_AFTER).map(Body::new)
    })
}

async fn pass_on(
    proxy: &Proxy,
    origins: &[OriginPattern],
    request: &mut Request,
) -> Result<Response, Problem> {
    if !origin::is_allowed(request, origins) {
        let detail = "pages of this origin may not follow events; see CORS_ORIGINS";
        return Err(Problem::new(ProblemKind::OriginForbidden, detail));
    }
    // The broadcaster would compare it with its own host.
    request.headers_mut().remove(header::ORIGIN);
    if is_websocket_handshake(request) {
        // Its bytes would be passed on as frames.
        if !request.body().is_end_stream() {
            let detail = "a WebSocket handshake must have no body; send frames after the response";
            return Err(Problem::new(ProblemKind::BadRequest, detail));
        }
        return proxy.pass_on(request, Duration::ZERO).await;
    }
    match Preference::read(request.headers()) {
        Some(Preference::Wait(wait)) if !event_stream::is_requested(request.headers()) => {
            long_poll(proxy, request, wait).await
        }
        _ => proxy.pass_on(request, Duration::ZERO).await,
    }
}

async fn long_poll(
    proxy: &Proxy,
    request: &mut Request,
    wait: Duration,
) -> Result<Response, Problem> {
    let begun = Instant::now();
    let mut response = tokio::select! {
        response = proxy.pass_on(request, wait) => response?,
        () = proxy.time_to_close() => nothing_yet(request)?,
    };
    response.extensions_mut().insert(Waited(begun.elapsed().min(wait)));
    Ok(response)
}

/// Returns a page without events to a client whose wait ends early: there were none behind its position. Where it has
/// none, the page would need one.
fn nothing_yet(request: &Request) -> Result<Response, Problem> {
    let mut fields = Fields::from_query(request.uri().query().unwrap_or_default());
    let after = fields.parsed("after", "", "", |text| text.parse::<EventPosition>().ok());
    // The header counts more, as for the broadcaster.
    let header =
        request.headers().get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let Some(position) = header.or(after) else {
        let detail = "this gateway is shutting down; ask again";
        return Err(Problem::new(ProblemKind::Overloaded, detail));
    };
    let page = serde_json::json!({ "events": [], "position": position.to_string() });
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(page)).into_response())
}
