//! `GET /problems/{type}`: the page behind the `type` of a problem. `GET /problems` lists them.

use axum::{body::Body, extract::Request};
use contracts::{ProblemKind, ProblemType};
use service::http::problem_page;

use crate::{error::HandlerResult, openapi::parameters::AcceptHeader};

/// Explain a problem type
///
/// Says what a problem of this type means and what to do about it: as HTML or, if `Accept` prefers it, as JSON.
#[utoipa::path(
    get,
    path = "/problems/{type}",
    operation_id = "explainProblem",
    tag = "problems",
    params(
        ("type" = String, Path, description = "Last part of a problem's `type`", example = "version-mismatch"),
        AcceptHeader,
    ),
    responses((
        status = 200,
        description = "What the problem type means, and what to do",
        content((ProblemType = "application/json"), (String = "text/html")),
        headers(("Cache-Control"), ("Vary")),
    )),
)]
pub(crate) async fn explain(request: Request) -> HandlerResult {
    page(&request)
}

/// List all problem types
///
/// Says of each type what `GET /problems/{type}` does.
#[utoipa::path(
    get,
    path = "/problems",
    operation_id = "listProblems",
    tag = "problems",
    params(AcceptHeader),
    responses((
        status = 200,
        description = "All problem types",
        content((Vec<ProblemType> = "application/json"), (String = "text/html")),
        headers(("Cache-Control"), ("Vary")),
    )),
)]
pub(crate) async fn list(request: Request) -> HandlerResult {
    page(&request)
}

fn page(request: &Request) -> HandlerResult {
    let page = problem_page::respond(request.method(), request.uri().path(), request.headers());
    Ok(page.ok_or(ProblemKind::UnknownPath)?.map(Body::new))
}
