//! The handlers of `/api/messages`.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{RawQuery, State},
    http::{HeaderMap, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use contracts::{
    Action, Command, Failure, FieldError, Message, MessageId, Outcome, Problem, ProblemKind,
    Timestamp, VersionedMessage,
};

use crate::{
    body::Fields,
    conditional::{IfMatch, has_version},
    idempotency::{IDEMPOTENCY_REPLAYED, IdempotencyKey},
    openapi::{
        parameters::{CreateHeaders, ListQuery, ReadHeaders, WriteHeaders},
        problems::{CreateProblems, DeleteProblems, EditProblems, ListProblems, ReadProblems},
        responses::{
            AcceptedMessage, AcceptedOperation, Created, Deleted, Edited, Found, NotModified, Page,
        },
        schemas,
    },
    operations::Operation,
    path::{PathParam, parse_uuid},
    prefer::Preference,
    query::{list_query, next_link},
    responses::{self, ProblemResponse, accepted, failure_problem, message_not_found},
    routes::App,
    spans::RequestTrace,
    submit::Progress,
};

type Answer = Result<Response, ProblemResponse>;

/// Create a message
#[utoipa::path(
    post,
    path = "/api/messages",
    operation_id = "createMessage",
    tag = "messages",
    params(CreateHeaders),
    request_body = schemas::NewMessage,
    responses(
        (status = 201, response = inline(Created)),
        (status = 202, response = inline(AcceptedMessage)),
        CreateProblems,
    ),
)]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
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

/// Read a message
#[utoipa::path(
    get,
    path = "/api/messages/{id}",
    operation_id = "readMessage",
    tag = "messages",
    params(("id" = schemas::MessageId, Path, description = "The message's id"), ReadHeaders),
    responses(
        (status = 200, response = inline(Found)),
        (status = 304, response = inline(NotModified)),
        ReadProblems,
    ),
)]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    PathParam(id): PathParam<MessageId>,
    place: RequestTrace,
    headers: HeaderMap,
) -> Answer {
    let stored = place.find(app.store.find(id)).await?.ok_or_else(message_not_found)?;
    if has_version(&headers, stored.version)? {
        return Ok(responses::not_modified(stored.version));
    }
    Ok(responses::message(StatusCode::OK, &stored))
}

/// List the messages of a conversation, newest first
#[utoipa::path(
    get,
    path = "/api/messages",
    operation_id = "listMessages",
    tag = "messages",
    params(ListQuery),
    responses((status = 200, response = inline(Page)), ListProblems),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    place: RequestTrace,
    RawQuery(query): RawQuery,
) -> Answer {
    let query = list_query(query.as_deref())?;
    let page = place.find(app.store.list(&query)).await?;
    let link = page.next.map(|next| next_link(&query, next));
    Ok(responses::list(&page.messages, link))
}

/// Replace a message's content
#[utoipa::path(
    put,
    path = "/api/messages/{id}",
    operation_id = "editMessage",
    tag = "messages",
    params(("id" = schemas::MessageId, Path, description = "The message's id"), WriteHeaders),
    request_body = schemas::MessageEdit,
    responses(
        (status = 200, response = inline(Edited)),
        (status = 202, response = inline(AcceptedMessage)),
        EditProblems,
    ),
)]
pub(crate) async fn edit(
    State(app): State<Arc<App>>,
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

/// Delete a message
#[utoipa::path(
    delete,
    path = "/api/messages/{id}",
    operation_id = "deleteMessage",
    tag = "messages",
    params(("id" = schemas::MessageId, Path, description = "The message's id"), WriteHeaders),
    responses(
        (status = 204, response = inline(Deleted)),
        (status = 202, response = inline(AcceptedOperation)),
        DeleteProblems,
    ),
)]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
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

/// The fields that an edit can't change. A client that edits what it fetched sends them back.
struct UnchangedFields {
    id: Option<MessageId>,
    from_user_id: Option<contracts::UserId>,
    to_user_id: Option<contracts::UserId>,
    publish_timestamp: Option<Timestamp>,
    edit_timestamp: Option<Timestamp>,
    /// Whether `edit_timestamp` was sent as `null`.
    never_edited: bool,
}

impl UnchangedFields {
    fn read(fields: &mut Fields) -> Self {
        let id = fields.optional_parsed(
            "id",
            "uuid_parsing",
            "Input should be a valid UUID",
            parse_uuid,
        );
        let from_user_id = fields.optional_user_id("from_user_id");
        let to_user_id = fields.optional_user_id("to_user_id");
        let timestamp = |fields: &mut Fields, name| {
            let msg = "Input should be an RFC 3339 timestamp";
            fields.optional_parsed(name, "datetime_parsing", msg, |text| text.parse().ok())
        };
        let publish_timestamp = timestamp(fields, "publish_timestamp");
        let never_edited = fields.take_null("edit_timestamp");
        let edit_timestamp = timestamp(fields, "edit_timestamp");
        Self { id, from_user_id, to_user_id, publish_timestamp, edit_timestamp, never_edited }
    }

    fn check(&self, stored: &Message) -> Result<(), Problem> {
        let mut different = Vec::new();
        let mut compare = |name: &'static str, equal: bool| {
            if !equal {
                let msg = "Differs from what is stored, and an edit cannot change it";
                different.push(FieldError::new("body", name, "field_conflict", msg));
            }
        };
        compare("id", self.id.is_none_or(|id| id == stored.id));
        compare(
            "from_user_id",
            self.from_user_id.as_ref().is_none_or(|user| *user == stored.from_user_id),
        );
        compare(
            "to_user_id",
            self.to_user_id.as_ref().is_none_or(|user| *user == stored.to_user_id),
        );
        compare(
            "publish_timestamp",
            self.publish_timestamp.is_none_or(|at| at == stored.publish_timestamp),
        );
        let same_edit = match self.edit_timestamp {
            Some(edited_at) => stored.edit_timestamp == Some(edited_at),
            None => !self.never_edited || stored.edit_timestamp.is_none(),
        };
        compare("edit_timestamp", same_edit);
        if different.is_empty() {
            return Ok(());
        }
        let detail = "only content can be changed; the fields in errors differ from what is stored";
        Err(Problem { errors: different, ..Problem::new(ProblemKind::FieldConflict, detail) })
    }
}

/// The answer to a command that ended in a way its handler has no success for.
fn failed(result: &Outcome) -> ProblemResponse {
    match result {
        Outcome::Failed(failure) => failure_problem(*failure).into(),
        _ => responses::internal("an outcome does not fit its command"),
    }
}
