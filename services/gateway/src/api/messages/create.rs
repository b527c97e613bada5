//! `POST /api/messages`.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue},
};
use contracts::{Action, Command, Message, MessageId, Outcome, Timestamp, VersionedMessage};

use super::{Answer, failed};
use crate::{
    commands::submit::Progress,
    http::{
        body::Fields,
        idempotency::{IDEMPOTENCY_REPLAYED, IdempotencyKey},
        prefer::Preference,
        responses::{self, accepted},
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
    State(app): State<Arc<AppState>>,
    place: RequestTrace,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let mut fields = Fields::read(&headers, body).await?;
    let key = fields.header(IdempotencyKey::read(&headers)).flatten();
    let from_user_id = fields.user_id("from_user_id");
    let to_user_id = fields.user_id("to_user_id");
    let content = fields.content();
    fields.finish()?;
    let (Some(from_user_id), Some(to_user_id), Some(content)) = (from_user_id, to_user_id, content)
    else {
        return Err(responses::internal("a create without its fields passed the checks"));
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
    let preference = Preference::read(&headers, app.write_wait);
    let answer = match app.writes.submit(command, preference.wait, &place).await? {
        Progress::Accepted { operation, .. } => accepted(operation, message),
        Progress::Finished(Outcome::Created) => {
            responses::created(&VersionedMessage { message, version: 1 })
        }
        Progress::Finished(Outcome::Replayed(stored)) => {
            let yes = HeaderValue::from_static("true");
            responses::with_header(responses::created(&stored), IDEMPOTENCY_REPLAYED, yes)
        }
        Progress::Finished(result) => return Err(failed(&result)),
    };
    Ok(preference.note(answer))
}
