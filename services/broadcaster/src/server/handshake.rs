//! The WebSocket handshake's HTTP side (RFC 6455, section 4.2): which requests may go on as a
//! WebSocket, and the answers to the others.

use bytes::Bytes;
use contracts::{Problem, ProblemKind};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header,
};
use http_body_util::Full;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::asyncapi;
use crate::origins::AllowedOrigins;

/// Where the description of the WebSocket is.
const DESCRIPTION: &str = "/asyncapi.json";

/// Where subscribers connect.
const CHAT: &str = "/api/chat";

/// When a refused subscriber may try again, in seconds.
const RETRY_AFTER_SECS: &str = "5";

/// An answer of this server.
pub(crate) type Answer = Response<Full<Bytes>>;

/// Why a request does not become a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    UnknownPath,
    WrongMethod { allowed: &'static str },
    NoUpgrade,
    OtherVersion,
    BadHost,
    BadKey,
    ForeignOrigin,
    Full,
    AddressFull,
    Stopping,
}

/// Answers a request for the description; `None` where it is for something else.
pub(crate) fn describe(method: &Method, path: &str) -> Option<Answer> {
    let asked = path == DESCRIPTION && (method == Method::GET || method == Method::HEAD);
    asked.then(|| {
        let mut answer = Response::new(Full::from(asyncapi::JSON.clone()));
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // It is for tools on other pages, too.
        let all = HeaderValue::from_static("*");
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, all);
        answer
    })
}

/// Which of the paths that are answered here this is.
pub(crate) fn route(path: &str) -> Option<&'static str> {
    [CHAT, DESCRIPTION].into_iter().find(|route| *route == path)
}

/// Checks a request that is no health question. Returns the `Sec-WebSocket-Accept` to answer with.
pub(crate) fn check<B>(
    request: &Request<B>,
    origins: &AllowedOrigins,
) -> Result<HeaderValue, Refusal> {
    match request.uri().path() {
        CHAT if request.method() == Method::GET => {}
        CHAT => return Err(Refusal::WrongMethod { allowed: "GET" }),
        "/livez" | "/readyz" | "/metrics" | DESCRIPTION => {
            return Err(Refusal::WrongMethod { allowed: "GET, HEAD" });
        }
        _ => return Err(Refusal::UnknownPath),
    }
    let headers = request.headers();
    let upgrade = request.version() == Version::HTTP_11
        && has_token(headers, &header::CONNECTION, "upgrade")
        && has_token(headers, &header::UPGRADE, "websocket");
    if !upgrade {
        return Err(Refusal::NoUpgrade);
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Refusal::OtherVersion);
    }
    only(headers, &header::HOST).ok_or(Refusal::BadHost)?;
    let key = only(headers, &header::SEC_WEBSOCKET_KEY);
    let key = key.filter(|key| is_key(key)).ok_or(Refusal::BadKey)?;
    if !origins.allow(headers) {
        return Err(Refusal::ForeignOrigin);
    }
    HeaderValue::try_from(derive_accept_key(key)).map_err(|_| Refusal::BadKey)
}

/// The 101, after which the connection is a WebSocket. No subprotocol and no extension is chosen.
pub(crate) fn switching_protocols(accept_key: HeaderValue) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept_key);
    answer
}

impl Refusal {
    pub(crate) fn into_answer(self) -> Answer {
        let mut answer = problem(&self.problem());
        let mut add = |name: HeaderName, value: &'static str| {
            answer.headers_mut().insert(name, HeaderValue::from_static(value));
        };
        match self {
            Self::WrongMethod { allowed } => add(header::ALLOW, allowed),
            Self::NoUpgrade | Self::OtherVersion => {
                add(header::UPGRADE, "websocket");
                // RFC 9110, section 7.8: who sends Upgrade also names it here.
                add(header::CONNECTION, "Upgrade");
                add(header::SEC_WEBSOCKET_VERSION, "13");
            }
            Self::Full | Self::AddressFull | Self::Stopping => {
                add(header::RETRY_AFTER, RETRY_AFTER_SECS);
            }
            Self::UnknownPath | Self::BadHost | Self::BadKey | Self::ForeignOrigin => {}
        }
        answer
    }

    fn problem(self) -> Problem {
        match self {
            Self::UnknownPath => Problem::new(
                ProblemKind::UnknownPath,
                "there is nothing at this path; the WebSocket is at /api/chat",
            ),
            Self::WrongMethod { allowed } => Problem::new(
                ProblemKind::MethodNotAllowed,
                format!("this path can be asked with {allowed} only"),
            ),
            Self::NoUpgrade => Problem::new(
                ProblemKind::UpgradeRequired,
                "this is a WebSocket: connect to it with ws:// or wss://",
            ),
            Self::OtherVersion => Problem::new(
                ProblemKind::UpgradeRequired,
                "Sec-WebSocket-Version must be 13 (RFC 6455)",
            ),
            Self::BadHost => {
                Problem::new(ProblemKind::BadRequest, "there must be one Host (RFC 9112)")
            }
            Self::BadKey => Problem::new(
                ProblemKind::BadRequest,
                "Sec-WebSocket-Key must be there once, 16 bytes in base64 (RFC 6455)",
            ),
            Self::ForeignOrigin => Problem::new(
                ProblemKind::OriginForbidden,
                "pages of this origin may not subscribe here",
            ),
            Self::Full => Problem::new(
                ProblemKind::Overloaded,
                "there are as many subscribers as can be served; try again later",
            ),
            Self::AddressFull => Problem::new(
                ProblemKind::TooManyFromAddress,
                "there are as many subscribers from this address as may be",
            ),
            Self::Stopping => Problem::new(
                ProblemKind::Overloaded,
                "this replica is shutting down; connect again",
            ),
        }
    }
}

fn problem(problem: &Problem) -> Answer {
    // A problem is a map with text keys: it always serializes.
    let body = serde_json::to_vec(problem).unwrap_or_default();
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() =
        StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    answer
}

/// The header's value, where it is there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then_some(value.as_bytes())
}

/// Whether a header that lists tokens lists this one, in whatever case.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers.get_all(name).iter().any(|value| {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .any(|listed| listed.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    })
}

/// Whether this is 16 bytes in base64: 22 digits and two signs of padding.
fn is_key(key: &[u8]) -> bool {
    let digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.strip_suffix(b"==").is_some_and(|digits| digits.len() == 22 && digits.iter().all(digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The handshake of RFC 6455, section 1.3.
    fn handshake() -> Request<()> {
        Request::get("/api/chat")
            .header(header::HOST, "example.com")
            .header(header::CONNECTION, "keep-alive, Upgrade")
            .header(header::UPGRADE, "WebSocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==")
            .header(header::ORIGIN, "http://example.com")
            .body(())
            .unwrap()
    }

    fn refusal(change: impl FnOnce(&mut Request<()>)) -> Refusal {
        let mut request = handshake();
        change(&mut request);
        let origins = AllowedOrigins::new(Some(vec!["http://example.com".parse().unwrap()]));
        check(&request, &origins).unwrap_err()
    }

    fn without(name: HeaderName) -> Answer {
        refusal(|request| {
            request.headers_mut().remove(name);
        })
        .into_answer()
    }

    #[test]
    fn the_accept_key_is_that_of_the_rfc() {
        let accept_key = check(&handshake(), &AllowedOrigins::default()).unwrap();
        assert_eq!(accept_key, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn without_an_upgrade_the_answer_says_which() {
        for name in [header::CONNECTION, header::UPGRADE, header::SEC_WEBSOCKET_VERSION] {
            let answer = without(name);
            assert_eq!(answer.status(), 426);
            assert_eq!(answer.headers()[header::UPGRADE], "websocket");
            assert_eq!(answer.headers()[header::CONNECTION], "Upgrade");
            assert_eq!(answer.headers()[header::SEC_WEBSOCKET_VERSION], "13");
            assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/problem+json");
        }
        let version_10 = refusal(|request| *request.version_mut() = Version::HTTP_10);
        assert_eq!(version_10, Refusal::NoUpgrade);
    }

    #[test]
    fn a_key_that_is_none_is_a_bad_request() {
        assert_eq!(without(header::SEC_WEBSOCKET_KEY).status(), 400);
        for key in
            ["", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZSE=", "dGhlIHNhbXBsZSBub2$jZQ=="]
        {
            let refused = refusal(|request| {
                let key = HeaderValue::from_static(key);
                request.headers_mut().insert(header::SEC_WEBSOCKET_KEY, key);
            });
            assert_eq!(refused, Refusal::BadKey, "{key}");
        }
    }

    #[test]
    fn what_must_be_there_once_is_refused_twice() {
        assert_eq!(without(header::HOST).status(), 400);
        for (name, refusal_of_two) in
            [(header::HOST, Refusal::BadHost), (header::SEC_WEBSOCKET_KEY, Refusal::BadKey)]
        {
            let refused = refusal(|request| {
                let value = request.headers()[&name].clone();
                request.headers_mut().append(name, value);
            });
            assert_eq!(refused, refusal_of_two);
        }
    }

    #[test]
    fn a_foreign_origin_is_forbidden() {
        let refused = refusal(|request| {
            let foreign = HeaderValue::from_static("http://evil.example");
            request.headers_mut().insert(header::ORIGIN, foreign);
        });
        assert_eq!(refused, Refusal::ForeignOrigin);
        assert_eq!(refused.into_answer().status(), 403);
    }

    #[test]
    fn other_paths_and_methods_are_refused() {
        let other_path = refusal(|request| *request.uri_mut() = "/api/chats".parse().unwrap());
        assert_eq!(other_path.into_answer().status(), 404);
        let other_method = refusal(|request| *request.method_mut() = Method::POST).into_answer();
        assert_eq!(other_method.status(), 405);
        assert_eq!(other_method.headers()[header::ALLOW], "GET");
    }

    #[test]
    fn a_full_server_says_when_to_try_again() {
        for (refusal, status) in
            [(Refusal::Full, 503), (Refusal::AddressFull, 429), (Refusal::Stopping, 503)]
        {
            let answer = refusal.into_answer();
            assert_eq!(answer.status(), status);
            assert!(answer.headers().contains_key(header::RETRY_AFTER));
        }
    }
}
