//! Rules of HTTP that every response must keep, whatever made it.

use ::http::{HeaderMap, HeaderValue, Response, StatusCode, Version, header};

use super::has_token;

/// Makes `response`, to a request of this version, keep the rules.
pub(super) fn complete<B>(response: &mut Response<B>, version: Version) {
    complete_allow(response.status(), response.headers_mut());
    // A 304 has no body; only the length of the whole response would be right (RFC 9110, section 8.6).
    if response.status() == StatusCode::NOT_MODIFIED {
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    // Otherwise hyper agrees to keep the connection alive for a client that asks for it, beside our `close`.
    if version == Version::HTTP_10 && has_token(response.headers(), &header::CONNECTION, "close") {
        *response.version_mut() = Version::HTTP_10;
    }
}

/// Adds `OPTIONS`, which a router does not know of, to `Allow`. A response that is about another mistake than the method
/// has no `Allow`, though a router adds it.
fn complete_allow(status: StatusCode, headers: &mut HeaderMap) {
    let Some(allow) = headers.get_mut(header::ALLOW) else { return };
    if status != StatusCode::METHOD_NOT_ALLOWED && !status.is_success() {
        headers.remove(header::ALLOW);
    } else if let Ok(all) = HeaderValue::try_from([allow.as_bytes(), b",OPTIONS"].concat()) {
        *allow = all;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(status: u16, version: Version, name: header::HeaderName) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        let value = match name {
            header::ALLOW => "GET,HEAD",
            header::CONNECTION => "close",
            _ => "0",
        };
        response.headers_mut().insert(name, HeaderValue::from_static(value));
        complete(&mut response, version);
        response
    }

    #[test]
    fn only_a_405_and_an_answer_to_options_say_what_is_allowed() {
        for (status, allow) in [
            (405, Some("GET,HEAD,OPTIONS")),
            (204, Some("GET,HEAD,OPTIONS")),
            (400, None),
            (415, None),
            (501, None),
        ] {
            let response = completed(status, Version::HTTP_11, header::ALLOW);
            let sent = response.headers().get(header::ALLOW).map(|it| it.to_str().unwrap());
            assert_eq!(sent, allow, "{status}");
        }
    }

    #[test]
    fn a_304_has_no_length_and_others_keep_theirs() {
        for (status, has_length) in [(304, false), (200, true)] {
            let response = completed(status, Version::HTTP_11, header::CONTENT_LENGTH);
            assert_eq!(response.headers().contains_key(header::CONTENT_LENGTH), has_length);
        }
    }

    #[test]
    fn a_response_that_closes_a_connection_of_http_1_0_has_its_version() {
        let version = |version, name| completed(200, version, name).version();
        assert_eq!(version(Version::HTTP_10, header::CONNECTION), Version::HTTP_10);
        assert_eq!(version(Version::HTTP_11, header::CONNECTION), Version::HTTP_11);
        assert_eq!(version(Version::HTTP_10, header::ETAG), Version::HTTP_11);
    }
}
