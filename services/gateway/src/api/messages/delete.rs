//! `DELETE /api/messages/{id}`.

use std::sync::Arc;

use auth::rules;
use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
};
use contracts::{Action, Command, MessageId, Outcome, Timestamp};

use super::write;
use crate::{
    api::operations::Operation,
    auth::RequestCaller,
    commands::Submission,
    error::{self, HandlerResult},
    http::{conditional, path::PathParam, responses::accepted},
    openapi::parameters::PreferHeader,
    spans::RequestTrace,
    state::AppState,
};

/// Delete a message
#[utoipa::path(
    delete,
    path = "/api/messages/{id}",
    operation_id = "deleteMessage",
    tag = "messages",
    params(("id" = MessageId, Path, description = "Id of the message"), PreferHeader),
    responses(
        (status = 204, description = "The message is deleted"),
        (
            status = 202,
            description = "The write is durable but not applied yet",
            body = Operation,
            links(("operation" = (
                operation_id = "readOperation",
                parameters(("op" = "$response.body#/id")),
            ))),
        ),
    ),
)]
pub(crate) async fn delete(
    State(state): State<Arc<AppState>>,
    caller: RequestCaller,
    PathParam(id): PathParam<MessageId>,
    trace: RequestTrace,
    headers: HeaderMap,
) -> HandlerResult {
    let precondition = conditional::of_write(&headers)?;
    // The message is not read, since it can also be deleted while MongoDB is down. The worker holds the actor to the rules.
    let grant = caller.may_unread(rules::Action::Delete)?;
    let command = Command::new(id, Timestamp::now(), Action::Delete { precondition });
    let command = command.by(caller.actor(grant));
    write(&state, &headers, &caller, &trace, command, |submission| match submission {
        Submission::Accepted { operation, .. } => {
            Ok(accepted(operation, Operation::pending(operation)))
        }
        Submission::Completed(Outcome::Deleted) => Ok(StatusCode::NO_CONTENT.into_response()),
        Submission::Completed(outcome) => Err(error::not_a_success(&outcome)),
    })
    .await
}
