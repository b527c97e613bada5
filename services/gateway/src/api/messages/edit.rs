//! `PUT /api/messages/{id}`.

mod unchanged_fields;

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use contracts::{
    Action, Command, Failure, Message, MessageId, Outcome, Timestamp, VersionedMessage,
};
use unchanged_fields::UnchangedFields;

use super::{Answer, failed};
use crate::{
    commands::submit::Progress,
    http::{
        body::Fields,
        conditional::IfMatch,
        path::PathParam,
        prefer::Preference,
        responses::{self, accepted, failure_problem, message_not_found},
    },
    openapi::{
        parameters::{IfMatchHeader, PreferHeader},
        schemas::MessageEdit,
    },
    spans::RequestTrace,
    state::AppState,
};

/// Replace a message's content
#[utoipa::path(
    put,
    path = "/api/messages/{id}",
    operation_id = "editMessage",
    tag = "messages",
    params(("id" = MessageId, Path, description = "Id of the message"), IfMatchHeader, PreferHeader),
    request_body = MessageEdit,
    responses(
        (
            status = 200,
            description = "The message as it is stored: with this edit, or with a newer one that \
                           superseded it",
            body = Message,
            headers(("ETag"), ("Preference-Applied")),
        ),
        (
            status = 202,
            description = "The write is durable but not applied yet",
            body = Message,
            headers(("Location"), ("Retry-After"), ("Preference-Applied")),
        ),
    ),
)]
pub(crate) async fn edit(
    State(app): State<Arc<AppState>>,
    PathParam(id): PathParam<MessageId>,
    place: RequestTrace,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let if_match = IfMatch::read(&headers)?;
    let mut fields = Fields::read(&headers, body).await?;
    let content = fields.content();
    let unchanged = UnchangedFields::read(&mut fields);
    fields.finish()?;
    let Some(content) = content else {
        return Err(responses::internal("an edit without content passed the checks"));
    };
    let VersionedMessage { message, version } =
        place.find(app.store.find(id)).await?.ok_or_else(message_not_found)?;
    // Versions only grow, so this mismatch is final. It says more than that a field of an older
    // version differs.
    if if_match.version().is_some_and(|asked| asked < version) {
        return Err(failure_problem(Failure::VersionMismatch).into());
    }
    unchanged.check(&message)?;
    // Later than all that is stored, whatever this machine's clock says.
    let stored_at = message.edit_timestamp.unwrap_or(message.publish_timestamp);
    let now = Timestamp::now();
    let edit_timestamp = now.max(stored_at.next_millisecond());
    let action =
        Action::Edit { content: content.clone(), edit_timestamp, if_match: if_match.version() };
    let command = Command::new(id, now, action);
    let edited = Message { content, edit_timestamp: Some(edit_timestamp), ..message };
    let preference = Preference::read(&headers, app.write_wait);
    let answer = match app.writes.submit(command, preference.wait, &place).await? {
        Progress::Accepted { operation, .. } => accepted(operation, edited),
        Progress::Finished(Outcome::Edited(stored) | Outcome::Superseded(stored)) => {
            responses::message(StatusCode::OK, &stored)
        }
        Progress::Finished(Outcome::EditedThenDeleted { version }) => {
            responses::message(StatusCode::OK, &VersionedMessage { message: edited, version })
        }
        Progress::Finished(result) => return Err(failed(&result)),
    };
    Ok(preference.note(answer))
}
