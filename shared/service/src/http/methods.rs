//! Methods that a path does not have, and the two that every path has: `HEAD` wherever there is `GET`, and `OPTIONS`.

use ::http::{HeaderValue, Method, Response, StatusCode, header};
use contracts::{Problem, ProblemKind};

use super::{
    body::{self, Body},
    problem,
};

/// The `Allow` of a path that can only be read.
const READ_ONLY: HeaderValue = HeaderValue::from_static("GET,HEAD");

/// Returns the response to a request that does not read a path which can only be read.
#[must_use]
pub fn unless_read(method: &Method) -> Option<Response<Body>> {
    if method == Method::GET || method == Method::HEAD {
        return None;
    }
    let mut response = unsupported(method);
    response.headers_mut().insert(header::ALLOW, READ_ONLY);
    Some(response)
}

/// Returns the response to a request whose method its path does not have: 204 to `OPTIONS`, which asks for those that it
/// has, and else 405. The caller adds `Allow`, and the listener adds `OPTIONS` to that.
#[must_use]
pub fn unsupported(method: &Method) -> Response<Body> {
    if method == Method::OPTIONS {
        return no_content();
    }
    let detail = "this path does not support this method; see the Allow header";
    problem::response(&Problem::new(ProblemKind::MethodNotAllowed, detail), problem::NO_RETRY)
}

pub(super) fn no_content() -> Response<Body> {
    let mut response = Response::new(body::full(""));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}
