//! `DELETE /api/messages/{id}`.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
};
use contracts::{Action, Command, MessageId, Outcome, Timestamp};

use super::{Answer, failed};
use crate::{
    api::operations::Operation,
    commands::submit::Progress,
    http::{conditional::IfMatch, path::PathParam, prefer::Preference, responses::accepted},
    openapi::parameters::{IfMatchHeader, PreferHeader},
    spans::RequestTrace,
    state::AppState,
};

/// Delete a message
#[utoipa::path(
    delete,
    path = "/api/messages/{id}",
    operation_id = "deleteMessage",
    tag = "messages",
    params(("id" = MessageId, Path, description = "Id of the message"), IfMatchHeader, PreferHeader),
    responses(
        (status = 204, description = "The message is deleted", headers(("Preference-Applied"))),
        (
            status = 202,
            description = "The write is durable but not applied yet",
            body = Operation,
            headers(("Location"), ("Retry-After"), ("Preference-Applied")),
            links(("operation" = (
                operation_id = "readOperation",
                parameters(("op" = "$response.body#/id")),
            ))),
        ),
    ),
)]
pub(crate) async fn delete(
    State(app): State<Arc<AppState>>,
    PathParam(id): PathParam<MessageId>,
    place: RequestTrace,
    headers: HeaderMap,
) -> Answer {
    let if_match = IfMatch::read(&headers)?.version();
    let command = Command::new(id, Timestamp::now(), Action::Delete { if_match });
    let preference = Preference::read(&headers, app.write_wait);
    let answer = match app.writes.submit(command, preference.wait, &place).await? {
        Progress::Accepted { operation, .. } => accepted(operation, Operation::pending(operation)),
        Progress::Finished(Outcome::Deleted) => StatusCode::NO_CONTENT.into_response(),
        Progress::Finished(result) => return Err(failed(&result)),
    };
    Ok(preference.note(answer))
}
