//! `/api/messages`: a file for each verb.

pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod edit;
pub(crate) mod get;
pub(crate) mod list;

use axum::{http::HeaderMap, response::Response};
use contracts::{Command, Problem};

use crate::{
    commands::Submission, error::HandlerResult, http::prefer::Preference, spans::RequestTrace,
    state::AppState,
};

/// Submits a command, waits for it as `Prefer` asks, and returns the response that `respond` makes.
async fn write(
    state: &AppState,
    headers: &HeaderMap,
    trace: &RequestTrace,
    command: Command,
    respond: impl FnOnce(Submission) -> Result<Response, Problem>,
) -> HandlerResult {
    let preference = Preference::read(headers, state.write_wait);
    let submission = state.commands.submit(command, preference.wait, trace).await?;
    Ok(preference.apply_to(respond(submission)?))
}
