//! `POST /api/messages`.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue},
};
use contracts::{Action, Command, Message, MessageId, Outcome, Timestamp, VersionedMessage};

use crate::{
    api::write::write,
    commands::submit::Submission,
    error::{self, HandlerResult},
    http::{
        body,
        idempotency::{IDEMPOTENCY_REPLAYED, IdempotencyKey},
        responses::{accepted, created, with_header},
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
            headers(("ETag"), ("Location"), ("Preference-Applied"), ("Idempotency-Replayed")),
        ),
        (
            status = 202,
            description = "The write is durable but not applied yet",
            body = Message,
            headers(("Location"), ("Retry-After"), ("Preference-Applied")),
        ),
    ),
)]
pub(crate) async fn create(
    State(state): State<Arc<AppState>>,
    trace: RequestTrace,
    headers: HeaderMap,
    body: Body,
) -> HandlerResult {
    let mut fields = body::read_object(&headers, body).await?;
    let key = fields.header(IdempotencyKey::read(&headers)).flatten();
    let from_user_id = fields.user_id("from_user_id");
    let to_user_id = fields.user_id("to_user_id");
    let content = fields.content();
    fields.finish()?;
    let (Some(from_user_id), Some(to_user_id), Some(content)) = (from_user_id, to_user_id, content)
    else {
        return Err(error::internal("a create without its fields passed the checks").into());
    };
    let message = Message {
        id: key.map_or_else(MessageId::generate, |key| key.message_id(&from_user_id)),
        from_user_id: from_user_id.clone(),
        to_user_id: to_user_id.clone(),
        content: content.clone(),
        publish_timestamp: Timestamp::now(),
        edit_timestamp: None,
    };
    let action = Action::Create { from_user_id, to_user_id, content };
    let command = Command::new(message.id, message.publish_timestamp, action);
    write(&state, &headers, &trace, command, |submission| match submission {
        Submission::Accepted { operation, .. } => Ok(accepted(operation, message)),
        Submission::Completed(Outcome::Created) => {
            Ok(created(&VersionedMessage { message, version: 1 }))
        }
        Submission::Completed(Outcome::Replayed(stored)) => {
            let replayed = HeaderValue::from_static("true");
            Ok(with_header(created(&stored), IDEMPOTENCY_REPLAYED, replayed))
        }
        Submission::Completed(outcome) => Err(error::not_a_success(&outcome)),
    })
    .await
}
