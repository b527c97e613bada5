//! Successful responses, with their headers.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{AppendHeaders, IntoResponse, Response},
};
use contracts::{Message, OperationId, Version, VersionedMessage};
use serde::Serialize;

use crate::error::RETRY_AFTER;

/// 200 with a message and its `ETag`.
pub(crate) fn message(stored: &VersionedMessage) -> Response {
    ([(header::ETAG, etag(stored.version))], Json(&stored.message)).into_response()
}

/// 201 with a message, its `Location` and its `ETag`.
pub(crate) fn created(stored: &VersionedMessage) -> Response {
    let location = [(header::LOCATION, format!("/api/messages/{}", stored.message.id))];
    (StatusCode::CREATED, location, message(stored)).into_response()
}

/// 202: the write is durable, but not applied yet.
pub(crate) fn accepted(operation: OperationId, body: impl Serialize) -> Response {
    let headers = [
        (header::LOCATION, format!("/api/operations/{operation}")),
        (header::RETRY_AFTER, RETRY_AFTER.as_secs().to_string()),
    ];
    (StatusCode::ACCEPTED, headers, Json(body)).into_response()
}

/// 200 with an array of messages and these links, each in a line of its own.
pub(crate) fn page(messages: &[VersionedMessage], links: [Option<String>; 2]) -> Response {
    let messages: Vec<&Message> = messages.iter().map(|stored| &stored.message).collect();
    let links = AppendHeaders(links.into_iter().flatten().map(|link| (header::LINK, link)));
    (links, Json(messages)).into_response()
}

/// Returns a version as an entity tag.
fn etag(version: Version) -> String {
    format!("\"{version}\"")
}
