//! The description of the WebSocket, as `AsyncAPI` 3 has it.

use http::{HeaderValue, Method, Response, header};
use service::http::{Body, body};

pub(super) const PATH: &str = "/asyncapi.json";

pub(super) const DOCUMENT: &str = include_str!("asyncapi.json");

/// Returns the route of `path` if it is the description's.
pub(super) fn route(path: &str) -> Option<&'static str> {
    (path == PATH).then_some(PATH)
}

/// Returns the response to a request for the description, `None` to any other.
pub(super) fn respond(method: &Method, path: &str) -> Option<Response<Body>> {
    if path != PATH || !matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    let mut response = Response::new(body::full(DOCUMENT));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // Tools on pages of any origin may read it.
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    Some(response)
}
