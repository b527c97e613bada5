//! `PUT /api/messages/{id}`.

mod unchanged_fields;

use std::sync::Arc;

use axum::{body::Body, extract::State, http::HeaderMap};
use contracts::{Action, Command, Message, MessageId, Outcome, Timestamp, VersionedMessage};

use crate::{
    api::write::write,
    commands::submit::Submission,
    error::{self, HandlerResult},
    http::{
        body, conditional,
        path::PathParam,
        responses::{self, accepted},
    },
    openapi::{
        parameters::{IfMatchHeader, PreferHeader},
        schemas::MessageEdit,
    },
    spans::RequestTrace,
    state::AppState,
};
use unchanged_fields::UnchangedFields;

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
    State(state): State<Arc<AppState>>,
    PathParam(id): PathParam<MessageId>,
    trace: RequestTrace,
    headers: HeaderMap,
    body: Body,
) -> HandlerResult {
    let if_match = conditional::if_match(&headers)?;
    let mut fields = body::read_object(&headers, body).await?;
    let content = fields.content();
    let unchanged = UnchangedFields::read(&mut fields);
    fields.finish()?;
    let Some(content) = content else {
        return Err(error::internal("an edit without content passed the checks").into());
    };
    let VersionedMessage { message, version } =
        trace.find(state.store.find(id)).await?.ok_or_else(error::message_not_found)?;
    // Versions only grow, so this mismatch is final. It says more than a field of an older
    // version that differs.
    if if_match.is_some_and(|expected| expected < version) {
        return Err(error::version_mismatch().into());
    }
    unchanged.check(&message)?;
    // Later than everything stored, whatever this machine's clock says.
    let stored_at = message.edit_timestamp.unwrap_or(message.publish_timestamp);
    let now = Timestamp::now();
    let edit_timestamp = now.max(stored_at.next_millisecond());
    let action = Action::Edit { content: content.clone(), edit_timestamp, if_match };
    let command = Command::new(id, now, action);
    let edited = Message { content, edit_timestamp: Some(edit_timestamp), ..message };
    write(&state, &headers, &trace, command, |submission| match submission {
        Submission::Accepted { operation, .. } => Ok(accepted(operation, edited)),
        Submission::Completed(Outcome::Edited(stored) | Outcome::Superseded(stored)) => {
            Ok(responses::message(&stored))
        }
        Submission::Completed(Outcome::EditedThenDeleted { version }) => {
            Ok(responses::message(&VersionedMessage { message: edited, version }))
        }
        Submission::Completed(outcome) => Err(error::not_a_success(&outcome)),
    })
    .await
}
