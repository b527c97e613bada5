//! The second half of every write: submit its command, wait, respond.

use axum::{http::HeaderMap, response::Response};
use contracts::{Command, Problem};

use crate::{
    commands::submit::Submission, error::HandlerResult, http::prefer::Preference,
    spans::RequestTrace, state::AppState,
};

/// Submits a command, waits for it as `Prefer` asks, and returns the response that `respond` makes.
pub(super) async fn write(
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
