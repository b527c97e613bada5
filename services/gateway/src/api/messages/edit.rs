//! `PUT /api/messages/{id}`.

use std::sync::Arc;

use auth::rules;
use axum::{body::Body, extract::State, http::HeaderMap};
use contracts::{
    Action, Command, FieldError, Message, MessageId, Outcome, Problem, ProblemKind, SeenMessage,
    Timestamp, UserId, VersionedMessage,
};
use service::http::fields::{self, Fields};

use super::write;
use crate::{
    auth::RequestCaller,
    commands::Submission,
    error::{self, HandlerResult, problem},
    http::{
        body, conditional,
        path::{PathParam, parse_uuid},
        responses::{self, accepted},
    },
    openapi::{parameters::PreferHeader, schemas::MessageEdit},
    spans::RequestTrace,
    state::AppState,
};

/// Replace a message's content
#[utoipa::path(
    put,
    path = "/api/messages/{id}",
    operation_id = "editMessage",
    tag = "messages",
    params(("id" = MessageId, Path, description = "Id of the message"), PreferHeader),
    request_body = MessageEdit,
    responses(
        (
            status = 200,
            description = "The message as it is stored: with this edit, or with a newer one that \
                           superseded it",
            body = Message,
            headers(("ETag")),
        ),
        (status = 202, description = "The write is durable but not applied yet", body = Message),
    ),
)]
pub(crate) async fn edit(
    State(state): State<Arc<AppState>>,
    caller: RequestCaller,
    PathParam(id): PathParam<MessageId>,
    trace: RequestTrace,
    headers: HeaderMap,
    body: Body,
) -> HandlerResult {
    let precondition = conditional::of_write(&headers)?;
    let mut fields = body::read_object(&headers, body).await?;
    let content = fields.required("content", fields::content);
    let unchanged = UnchangedFields::read(&mut fields);
    let content = fields.finish(content)?;
    caller.may_unread(rules::Action::Edit)?;
    let VersionedMessage { message, version } =
        trace.find(state.store.find(id)).await?.ok_or(ProblemKind::MessageNotFound)?;
    let (from, to) = (&message.from_user_id, &message.to_user_id);
    let grant = caller.may(rules::Action::Edit, from, to)?;
    // This mismatch is final. It says more than a field of an older version that differs.
    if !precondition.can_allow_from(version) {
        return Err(ProblemKind::VersionMismatch.into());
    }
    unchanged.check(&message)?;
    // Later than everything stored, whatever this machine's clock says.
    let stored_at = message.edit_timestamp.unwrap_or(message.publish_timestamp);
    let now = Timestamp::now();
    let edit_timestamp = now.max(stored_at.next_millisecond());
    let precondition = precondition.narrowed_to(version);
    let seen = Some(SeenMessage {
        version,
        from_user_id: message.from_user_id.clone(),
        to_user_id: message.to_user_id.clone(),
        publish_timestamp: message.publish_timestamp,
    });
    let action = Action::Edit { content: content.clone(), edit_timestamp, precondition, seen };
    let command = Command::new(id, now, action).by(caller.actor(grant));
    let edited = Message { content, edit_timestamp: Some(edit_timestamp), ..message };
    write(&state, &headers, &caller, &trace, command, |submission| match submission {
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

/// The fields that an edit cannot change. A client that edits what it fetched sends them back.
#[expect(clippy::option_option, reason = "an absent field differs from null")]
struct UnchangedFields {
    id: Option<MessageId>,
    from_user_id: Option<UserId>,
    to_user_id: Option<UserId>,
    publish_timestamp: Option<Timestamp>,
    edit_timestamp: Option<Option<Timestamp>>,
}

impl UnchangedFields {
    fn read(fields: &mut Fields) -> Self {
        let timestamp = |fields: &mut Fields, name| {
            let msg = "Input should be an RFC 3339 timestamp";
            fields.parsed(name, "datetime_parsing", msg, |text| text.parse().ok())
        };
        let uuid = "Input should be a valid UUID";
        Self {
            id: fields.parsed("id", "uuid_parsing", uuid, parse_uuid),
            from_user_id: fields.optional("from_user_id", fields::user_id),
            to_user_id: fields.optional("to_user_id", fields::user_id),
            publish_timestamp: timestamp(fields, "publish_timestamp"),
            edit_timestamp: if fields.take_null("edit_timestamp") {
                Some(None)
            } else {
                timestamp(fields, "edit_timestamp").map(Some)
            },
        }
    }

    /// Returns the problem that names every field which differs from the stored message.
    fn check(self, stored: &Message) -> Result<(), Problem> {
        fn same<T: PartialEq>(sent: Option<T>, stored: &T) -> bool {
            sent.is_none_or(|sent| sent == *stored)
        }
        let checks = [
            ("id", same(self.id, &stored.id)),
            ("from_user_id", same(self.from_user_id, &stored.from_user_id)),
            ("to_user_id", same(self.to_user_id, &stored.to_user_id)),
            ("publish_timestamp", same(self.publish_timestamp, &stored.publish_timestamp)),
            ("edit_timestamp", same(self.edit_timestamp, &stored.edit_timestamp)),
        ];
        let msg = "Input should equal the stored value; an edit cannot change it";
        let errors: Vec<FieldError> = checks
            .into_iter()
            .filter(|(_, same)| !same)
            .map(|(name, _)| FieldError::new("body", name, "field_conflict", msg))
            .collect();
        if errors.is_empty() {
            Ok(())
        } else {
            Err(Problem { errors, ..problem(ProblemKind::FieldConflict) })
        }
    }
}
