//! Tokens in requests (RFC 6750), and what a response says about them.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use contracts::Scope;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::Denied;

/// Path of the metadata of a protected resource (RFC 9728, section 3).
pub const METADATA_PATH: &str = "/.well-known/oauth-protected-resource";

/// Header by which a gateway with `AUTH=jwt` tells the broadcaster, as `jwt`, that it relies on it to verify tokens.
pub const AUTH_OF_GATEWAY: HeaderName = HeaderName::from_static("x-messages-auth");

/// Subprotocol of a WebSocket whose client has a token. It is the one that the response names.
pub const SUBPROTOCOL: &str = "messages.v1";

/// Prefix of a subprotocol that has a token, in base64url: a browser's WebSocket can send no other header.
const TOKEN_SUBPROTOCOL: &str = "base64url.bearer.authorization.messages.";

const SCHEME: &str = "bearer";

const INVALID: Denied = Denied::Invalid { expired: false };

/// Returns the token of `Authorization: Bearer`. Without the header there is none; with another scheme, several credentials
/// or characters that no token has, it is not valid.
pub fn token(headers: &HeaderMap) -> Result<Option<&str>, Denied> {
    let mut lines = headers.get_all(header::AUTHORIZATION).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err(INVALID);
    }
    let (scheme, rest) =
        line.to_str().ok().and_then(|line| line.trim().split_once(' ')).ok_or(INVALID)?;
    let token = rest.trim_start_matches(' ');
    (scheme.eq_ignore_ascii_case(SCHEME) && is_token(token)).then_some(Some(token)).ok_or(INVALID)
}

/// Returns the token among the subprotocols that a WebSocket's handshake offers. It must be beside [`SUBPROTOCOL`], which the
/// response then names.
pub fn of_subprotocols(headers: &HeaderMap) -> Result<Option<String>, Denied> {
    let mut tokens = subprotocols(headers).filter_map(|name| name.strip_prefix(TOKEN_SUBPROTOCOL));
    let Some(encoded) = tokens.next() else { return Ok(None) };
    if tokens.next().is_some() || !offers_subprotocol(headers) {
        return Err(INVALID);
    }
    let token =
        URL_SAFE_NO_PAD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    token.filter(|token| is_token(token)).map(Some).ok_or(INVALID)
}

/// Returns the token of a WebSocket's handshake, which may have it in either place. In both, it must be the same.
pub fn of_handshake(headers: &HeaderMap) -> Result<Option<Cow<'_, str>>, Denied> {
    match (token(headers)?, of_subprotocols(headers)?) {
        (Some(header), Some(subprotocol)) if header != subprotocol => Err(Denied::TwoTokens),
        (Some(header), _) => Ok(Some(Cow::Borrowed(header))),
        (None, subprotocol) => Ok(subprotocol.map(Cow::Owned)),
    }
}

/// Returns true if a WebSocket's handshake offers [`SUBPROTOCOL`]. The response must then name it, or browsers close.
#[must_use]
pub fn offers_subprotocol(headers: &HeaderMap) -> bool {
    subprotocols(headers).any(|name| name == SUBPROTOCOL)
}

fn subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter();
    lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(',')).map(str::trim)
}

/// Returns true for a text of the characters that tokens have (RFC 6750, section 2.1).
fn is_token(text: &str) -> bool {
    let without_padding = text.trim_end_matches('=');
    let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    !without_padding.is_empty() && without_padding.bytes().all(is_valid)
}

/// Returns the value of `WWW-Authenticate` for a refusal: of a token, or because it lacks a scope. It names the resource's
/// metadata if this API's base URL is known, such as `https://api.example`.
#[must_use]
pub fn challenge(
    denied: Option<&Denied>,
    scope: Option<Scope>,
    base_url: Option<&str>,
) -> HeaderValue {
    let error = match (denied, scope) {
        (_, Some(_)) | (Some(Denied::NoUser), None) => Some("insufficient_scope"),
        (Some(Denied::Invalid { .. }), None) => Some("invalid_token"),
        (Some(Denied::TwoTokens), None) => Some("invalid_request"),
        // A client that sent no token is told nothing but that it needs one (RFC 6750, section 3.1).
        _ => None,
    };
    let error = error.map(|error| format!("error=\"{error}\""));
    let scope = scope.map(|scope| format!("scope=\"{scope}\""));
    let base_url = base_url.map(|url| url.trim_end_matches('/')).filter(|url| is_quotable(url));
    let metadata = base_url.map(|url| format!("resource_metadata=\"{url}{METADATA_PATH}\""));
    let parameters: Vec<String> = error.into_iter().chain(scope).chain(metadata).collect();
    let challenge = format!("Bearer {}", parameters.join(", "));
    // Each part is visible ASCII.
    HeaderValue::from_str(challenge.trim_end()).unwrap_or(HeaderValue::from_static("Bearer"))
}

/// Returns another server's challenge with the URL of the metadata at this base URL instead of its own; `None` if it is none.
#[must_use]
pub fn with_metadata_at(challenge: &HeaderValue, base_url: &str) -> Option<HeaderValue> {
    const NAME: &str = "resource_metadata=\"";
    let text = challenge.to_str().ok()?;
    let (before, after) = match text.split_once(NAME) {
        Some((before, rest)) => (before.to_owned(), rest.split_once('"')?.1),
        None if text.contains('=') => (format!("{text}, "), ""),
        None => (format!("{text} "), ""),
    };
    let own = format!("{before}{NAME}{base_url}{METADATA_PATH}\"{after}");
    HeaderValue::try_from(own).ok()
}

fn is_quotable(url: &str) -> bool {
    url.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &HeaderName, lines: &[&str]) -> HeaderMap {
        let line = |line: &&str| (name.clone(), HeaderValue::from_str(line).unwrap());
        lines.iter().map(line).collect()
    }

    #[test]
    fn a_token_is_a_single_bearer_credential() {
        let read = |lines: &[&str]| {
            let headers = headers(&header::AUTHORIZATION, lines);
            token(&headers).map(|token| token.map(str::to_owned))
        };
        assert_eq!(read(&[]), Ok(None));
        for line in ["Bearer a.b-c_d~e+f/g==", "bearer  a.b-c_d~e+f/g==", "BEARER a.b-c_d~e+f/g== "]
        {
            assert_eq!(read(&[line]), Ok(Some("a.b-c_d~e+f/g==".to_owned())), "{line}");
        }
        for line in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer ==",
            "Basic YTpi",
            "Bearer a b",
            "Bearer a,b",
            "Bearer a, Bearer b",
            "Bearer \"a\"",
            "Bearer a=b",
            "Bearer\ta",
            "a.b.c",
        ] {
            assert_eq!(read(&[line]), Err(INVALID), "{line:?}");
        }
        assert_eq!(read(&["Bearer a", "Bearer a"]), Err(INVALID), "which one?");
        let bytes = HeaderValue::from_bytes(b"Bearer \xe4").unwrap();
        assert_eq!(token(&HeaderMap::from_iter([(header::AUTHORIZATION, bytes)])), Err(INVALID));
    }

    #[test]
    fn a_token_may_be_a_subprotocol_beside_that_of_the_api() {
        let read =
            |lines: &[&str]| of_subprotocols(&headers(&header::SEC_WEBSOCKET_PROTOCOL, lines));
        let offer = |token: &str| format!("{TOKEN_SUBPROTOCOL}{}", URL_SAFE_NO_PAD.encode(token));
        let token = offer("a.b.c");
        let found = Ok(Some("a.b.c".to_owned()));
        assert_eq!(read(&[&format!("messages.v1, {token}")]), found);
        assert_eq!(read(&[&token, "messages.v1"]), found, "in several lines, in any order");
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["messages.v1, chat"]), Ok(None));
        for invalid in [
            token.clone(),
            format!("messages.v1, {token}, {token}"),
            format!("messages.v1, {}", offer("")),
            format!("messages.v1, {}", offer("a b")),
            format!("messages.v1, {token}!"),
            format!("messages.v1, {TOKEN_SUBPROTOCOL}_w"),
        ] {
            assert_eq!(read(&[&invalid]), Err(INVALID), "{invalid}");
        }
    }

    #[test]
    fn a_handshake_has_one_token_in_either_place_or_in_both() {
        let offer = |token: &str| {
            let token = URL_SAFE_NO_PAD.encode(token);
            vec![(
                header::SEC_WEBSOCKET_PROTOCOL,
                format!("messages.v1, {TOKEN_SUBPROTOCOL}{token}").try_into().unwrap(),
            )]
        };
        let sent = vec![(header::AUTHORIZATION, HeaderValue::from_static("Bearer a"))];
        let read = |lines: &[(HeaderName, HeaderValue)]| {
            let headers = HeaderMap::from_iter(lines.to_vec());
            of_handshake(&headers).map(|token| token.map(Cow::into_owned))
        };
        assert_eq!(read(&[]), Ok(None));
        for lines in [sent.clone(), offer("a"), [sent.clone(), offer("a")].concat()] {
            assert_eq!(read(&lines), Ok(Some("a".to_owned())));
        }
        assert_eq!(read(&[sent.clone(), offer("b")].concat()), Err(Denied::TwoTokens));
        assert_eq!(read(&[sent, offer("a b")].concat()), Err(INVALID));
    }

    #[test]
    fn a_challenge_says_no_more_than_it_should() {
        let base = Some("https://api.example/");
        let metadata =
            "resource_metadata=\"https://api.example/.well-known/oauth-protected-resource\"";
        assert_eq!(challenge(None, None, None), "Bearer");
        assert_eq!(challenge(Some(&Denied::NoToken), None, base), format!("Bearer {metadata}"));
        for expired in [false, true] {
            let invalid = challenge(Some(&Denied::Invalid { expired }), None, base);
            assert_eq!(invalid, format!("Bearer error=\"invalid_token\", {metadata}"));
        }
        assert_eq!(
            challenge(None, Some(Scope::WriteAs), None),
            "Bearer error=\"insufficient_scope\", scope=\"messages:write-as\""
        );
        assert_eq!(challenge(None, None, Some("https://a\", error=\"b")), "Bearer");
    }

    #[test]
    fn the_challenge_of_a_server_within_names_no_host_within() {
        let own = |theirs: &'static str| {
            with_metadata_at(&HeaderValue::from_static(theirs), "https://api.example").unwrap()
        };
        let metadata = format!("resource_metadata=\"https://api.example{METADATA_PATH}\"");
        for (theirs, expected) in [
            ("Bearer", format!("Bearer {metadata}")),
            (
                "Bearer error=\"invalid_token\"",
                format!("Bearer error=\"invalid_token\", {metadata}"),
            ),
            (
                "Bearer resource_metadata=\"http://broadcaster:8001/x\", scope=\"broadcast:read\"",
                format!("Bearer {metadata}, scope=\"broadcast:read\""),
            ),
        ] {
            assert_eq!(own(theirs), expected);
        }
    }
}
