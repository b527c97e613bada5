//! Methods that a path does not have, and the two that every path has: `HEAD` wherever there is `GET`, and `OPTIONS`.

use ::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use contracts::{Problem, ProblemKind};

use super::{
    body::{self, Body},
    problem,
};

/// The methods of a path that can only be read.
pub const READ_ONLY: &str = "GET,HEAD";

/// Returns the response to a request of a path that has other methods only: 204 to `OPTIONS`, which asks for them, and
/// else 405. [`allow`] must add them.
#[must_use]
pub fn unsupported(method: &Method) -> Response<Body> {
    if method == Method::OPTIONS {
        return no_content();
    }
    let detail = "this path does not support this method; see the Allow header";
    problem::response(&Problem::new(ProblemKind::MethodNotAllowed, detail), problem::NO_RETRY)
}

/// Adds `Allow`, of these methods and of `OPTIONS`.
pub fn allow(headers: &mut HeaderMap, methods: &str) {
    if let Ok(all) = HeaderValue::try_from(format!("{methods},OPTIONS")) {
        headers.insert(header::ALLOW, all);
    }
}

pub(super) fn no_content() -> Response<Body> {
    let mut response = Response::new(body::full(""));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}
