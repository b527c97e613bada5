//! `POST /api/messages`.

use std::sync::Arc;

use auth::rules;
use axum::{body::Body, extract::State, http::HeaderMap, response::IntoResponse};
use contracts::{Action, Command, Message, MessageId, Outcome, Timestamp, VersionedMessage};
use service::http::fields;

use super::write;
use crate::{
    auth::RequestCaller,
    commands::Submission,
    error::{self, HandlerResult},
    http::{
        body, conditional,
        idempotency::{self, IDEMPOTENCY_REPLAYED},
        responses::{accepted, created},
    },
    openapi::{
        parameters::{CreateHeaders, PreferHeader},
        schemas::NewMessage,
    },
    spans::RequestTrace,
    state::AppState,
};

/// Create a message
#[utoipa::path(
    post,
    path = "/api/messages",
    operation_id = "createMessage",
    tag = "messages",
    params(CreateHeaders, PreferHeader),
    request_body = NewMessage,
    responses(
        (
            status = 201,
            description = "The message is stored",
            body = Message,
            headers(("ETag"), ("Location"), ("Idempotency-Replayed")),
        ),
        (status = 202, description = "The write is durable but not applied yet", body = Message),
    ),
)]
pub(crate) async fn create(
    State(state): State<Arc<AppState>>,
    caller: RequestCaller,
    trace: RequestTrace,
    headers: HeaderMap,
    body: Body,
) -> HandlerResult {
    let precondition = conditional::of_create(&headers)?;
    let mut fields = body::read_object(&headers, body).await?;
    let key = fields.header(idempotency::key(&headers)).flatten();
    let from_user_id = match caller.user() {
        Some(user) => {
            let named = fields.optional("from_user_id", fields::user_id);
            Some(named.unwrap_or_else(|| user.clone()))
        }
        None => fields.required("from_user_id", fields::user_id),
    };
    let to_user_id = fields.required("to_user_id", fields::user_id);
    let content = fields.required("content", fields::content);
    let ((from_user_id, to_user_id), content) =
        fields.finish(from_user_id.zip(to_user_id).zip(content))?;
    let grant = caller.may(rules::Action::Create, &from_user_id, &to_user_id)?;
    precondition?;
    let actor = caller.actor(grant);
    let message = Message {
        id: match key {
            Some(key) => MessageId::from_idempotency_key(
                from_user_id.as_str(),
                key,
                actor.as_ref(),
                caller.user(),
            ),
            None => MessageId::generate(),
        },
        from_user_id: from_user_id.clone(),
        to_user_id: to_user_id.clone(),
        content: content.clone(),
        publish_timestamp: Timestamp::now(),
        edit_timestamp: None,
    };
    let action = Action::Create { from_user_id, to_user_id, content };
    let command = Command::new(message.id, message.publish_timestamp, action).by(actor);
    write(&state, &headers, &caller, &trace, command, |submission| match submission {
        Submission::Accepted { operation, .. } => Ok(accepted(operation, message)),
        Submission::Completed(Outcome::Created) => {
            Ok(created(&VersionedMessage { message, version: 1 }))
        }
        Submission::Completed(Outcome::Replayed(stored)) => {
            Ok(([(IDEMPOTENCY_REPLAYED, "true")], created(&stored)).into_response())
        }
        Submission::Completed(outcome) => Err(error::not_a_success(&outcome)),
    })
    .await
}
