//! The handlers of `/api/messages`, a file for each verb.

pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod edit;
pub(crate) mod get;
pub(crate) mod list;

use axum::response::Response;
use contracts::Outcome;

use crate::http::responses::{self, ProblemResponse, failure_problem};

type Answer = Result<Response, ProblemResponse>;

/// The answer to a command that ended in a way its handler has no success for.
fn failed(result: &Outcome) -> ProblemResponse {
    match result {
        Outcome::Failed(failure) => failure_problem(*failure).into(),
        _ => responses::internal("an outcome does not fit its command"),
    }
}
