//! The WebSocket handshake's HTTP side (RFC 6455, section 4.2).

use auth::bearer;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header,
};
use service::http::{Body, body, has_token};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::refusal::Refusal;

/// Path of the broadcast.
pub(super) const PATH: &str = "/api/chat";

/// Returns the route of `path` if it is the broadcast's.
pub(super) fn route(path: &str) -> Option<&'static str> {
    (path == PATH).then_some(PATH)
}

/// Returns true for a request that asks for a WebSocket, whether or not it asks well.
pub(super) fn asks_for_websocket(headers: &HeaderMap) -> bool {
    has_token(headers, &header::UPGRADE, "websocket")
}

/// Checks a request for a WebSocket that pages of some origins may open. Returns the value of `Sec-WebSocket-Accept`.
pub(super) fn check<B: hyper::body::Body>(
    request: &Request<B>,
    is_allowed: impl FnOnce(&HeaderMap) -> bool,
) -> Result<HeaderValue, Refusal> {
    let headers = request.headers();
    let upgrade = request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && has_token(headers, &header::CONNECTION, "upgrade")
        && asks_for_websocket(headers);
    if !upgrade {
        return Err(Refusal::UpgradeRequired);
    }
    if only(headers, &header::SEC_WEBSOCKET_VERSION) != Some(b"13") {
        return Err(Refusal::UnsupportedVersion);
    }
    let key = only(headers, &header::SEC_WEBSOCKET_KEY);
    let key = key.filter(|key| is_key(key)).ok_or(Refusal::InvalidKey)?;
    // Its bytes would be read as frames.
    if !request.body().is_end_stream() {
        return Err(Refusal::HasBody);
    }
    if !is_allowed(headers) {
        return Err(Refusal::OriginForbidden);
    }
    HeaderValue::try_from(derive_accept_key(key)).map_err(|_| Refusal::InvalidKey)
}

/// Returns the 101. The connection is then a WebSocket without extensions.
pub(super) fn switching_protocols(accept_key: HeaderValue, subprotocol: bool) -> Response<Body> {
    let mut response = Response::new(body::full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept_key);
    if subprotocol {
        headers
            .insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(bearer::SUBPROTOCOL));
    }
    response
}

/// Returns the header's value if there is exactly one.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then_some(value.as_bytes())
}

/// Returns true for 16 bytes in base64: 22 digits and two signs of padding.
fn is_key(key: &[u8]) -> bool {
    let digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.strip_suffix(b"==").is_some_and(|digits| digits.len() == 22 && digits.iter().all(digit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::origins::AllowedOrigins;

    /// The handshake of RFC 6455, section 1.3.
    fn handshake() -> Request<String> {
        Request::get("/api/chat")
            .header(header::HOST, "example.com")
            .header(header::CONNECTION, "keep-alive, Upgrade")
            .header(header::UPGRADE, "WebSocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==")
            .header(header::ORIGIN, "http://example.com")
            .body(String::new())
            .unwrap()
    }

    fn refusal(change: impl FnOnce(&mut Request<String>)) -> Refusal {
        let mut request = handshake();
        change(&mut request);
        let origins = AllowedOrigins::new(Some(vec!["http://example.com".parse().unwrap()]));
        check(&request, |headers| origins.allow(headers)).unwrap_err()
    }

    fn without(name: HeaderName) -> Response<Body> {
        refusal(|request| {
            request.headers_mut().remove(name);
        })
        .into_response()
    }

    #[test]
    fn the_accept_key_is_that_of_the_rfc() {
        let accept_key = check(&handshake(), |_| true).unwrap();
        assert_eq!(accept_key, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn without_an_upgrade_the_response_names_it() {
        for name in [header::CONNECTION, header::UPGRADE, header::SEC_WEBSOCKET_VERSION] {
            let response = without(name);
            assert_eq!(response.status(), 426);
            assert_eq!(response.headers()[header::UPGRADE], "websocket");
            assert_eq!(response.headers()[header::CONNECTION], "Upgrade");
            assert_eq!(response.headers()[header::SEC_WEBSOCKET_VERSION], "13");
            assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        }
        let version_10 = refusal(|request| *request.version_mut() = Version::HTTP_10);
        assert_eq!(version_10, Refusal::UpgradeRequired);
    }

    #[test]
    fn an_invalid_key_is_a_bad_request() {
        assert_eq!(without(header::SEC_WEBSOCKET_KEY).status(), 400);
        for key in
            ["", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZSE=", "dGhlIHNhbXBsZSBub2$jZQ=="]
        {
            let refused = refusal(|request| {
                let key = HeaderValue::from_static(key);
                request.headers_mut().insert(header::SEC_WEBSOCKET_KEY, key);
            });
            assert_eq!(refused, Refusal::InvalidKey, "{key}");
        }
    }

    #[test]
    fn version_and_key_must_be_sent_exactly_once() {
        for (name, expected) in [
            (header::SEC_WEBSOCKET_VERSION, Refusal::UnsupportedVersion),
            (header::SEC_WEBSOCKET_KEY, Refusal::InvalidKey),
        ] {
            let refused = refusal(|request| {
                let value = request.headers()[&name].clone();
                request.headers_mut().append(name, value);
            });
            assert_eq!(refused, expected);
        }
    }

    #[test]
    fn a_body_is_refused() {
        let refused = refusal(|request| *request.body_mut() = "a frame?".to_owned());
        assert_eq!(refused, Refusal::HasBody);
        assert_eq!(refused.into_response().status(), 400);
    }

    #[test]
    fn a_second_version_is_refused() {
        let refused = refusal(|request| {
            let other = HeaderValue::from_static("8");
            request.headers_mut().append(header::SEC_WEBSOCKET_VERSION, other);
        });
        assert_eq!(refused, Refusal::UnsupportedVersion);
    }

    #[test]
    fn a_foreign_origin_is_forbidden() {
        let refused = refusal(|request| {
            let foreign = HeaderValue::from_static("http://evil.example");
            request.headers_mut().insert(header::ORIGIN, foreign);
        });
        assert_eq!(refused, Refusal::OriginForbidden);
        assert_eq!(refused.into_response().status(), 403);
    }

    #[test]
    fn a_head_is_refused() {
        let head = refusal(|request| *request.method_mut() = Method::HEAD);
        assert_eq!(head, Refusal::UpgradeRequired);
    }
}
