//! The id of a request: in its log lines, its span and its response.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue},
};
use uuid::Uuid;

/// The header of the request and of its response.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Maximum characters of an id that a client chooses.
const MAX_CHARACTERS: usize = 128;

/// Gives a request its id. The broadcaster gets it, too, if the request is tunnelled.
pub(super) fn assign(request: &mut Request) -> HeaderValue {
    let id = choose(request.headers());
    request.headers_mut().insert(X_REQUEST_ID, id.clone());
    id
}

/// Returns the client's id if it can stand in a log, else a new one.
fn choose(headers: &HeaderMap) -> HeaderValue {
    let usable = |value: &&HeaderValue| {
        (1..=MAX_CHARACTERS).contains(&value.len())
            && value.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    if let Some(chosen) = headers.get(X_REQUEST_ID).filter(usable) {
        return chosen.clone();
    }
    // A UUID's digits and dashes are valid in a header.
    HeaderValue::try_from(Uuid::now_v7().to_string())
        .unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_taken_if_it_fits_and_made_otherwise() {
        let taken = |value: &str| {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            let headers = HeaderMap::from_iter([(X_REQUEST_ID, value.clone())]);
            choose(&headers) == value
        };
        assert!(taken("req-1"));
        assert!(!taken(""));
        assert!(!taken("two words"));
        assert!(!taken(&"x".repeat(129)));
        assert_ne!(choose(&HeaderMap::new()), choose(&HeaderMap::new()));
    }
}
