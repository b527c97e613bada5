//! `/api/messages`: a file for each verb.

pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod edit;
pub(crate) mod get;
pub(crate) mod list;

use axum::{http::HeaderMap, response::Response};
use contracts::{Command, Problem};
use service::http::prefer::Preference;

use crate::{
    auth::RequestCaller,
    commands::{Submission, Wait},
    error::HandlerResult,
    spans::RequestTrace,
    state::AppState,
};

/// Submits a command, waits for it as `Prefer` asks, and returns the response that `respond` makes.
async fn write(
    state: &AppState,
    headers: &HeaderMap,
    caller: &RequestCaller,
    trace: &RequestTrace,
    command: Command,
    respond: impl FnOnce(Submission) -> Result<Response, Problem>,
) -> HandlerResult {
    let preference = Preference::read(headers);
    let wait = match preference {
        Some(Preference::Wait(wait)) => Wait::ForOutcome(wait),
        Some(Preference::RespondAsync) => Wait::ForConfirm,
        None => Wait::ForOutcome(state.write_wait),
    };
    let mut submission = state.commands.submit(command, wait, trace).await?;
    if let (Submission::Accepted { operation, .. }, Some(macs)) =
        (&mut submission, &state.operation_macs)
    {
        *operation = macs.sign(*operation, caller.get());
    }
    let mut response = respond(submission)?;
    if let Some(preference) = preference {
        preference.apply_to(response.headers_mut());
    }
    Ok(response)
}
