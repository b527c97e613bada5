//! Refused handshakes, as problems (RFC 9457).

use std::time::Duration;

use auth::{Denied, bearer};
use contracts::{Problem, ProblemKind, Scope};
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use service::http::{Body, event_stream, problem};

/// Time after which a refused subscriber may try again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// A reason why a request becomes neither a WebSocket nor an event stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    UnknownPath,
    Invalid(Box<Problem>),
    UpgradeRequired,
    UnsupportedVersion,
    InvalidKey,
    HasBody,
    OriginForbidden,
    SubscriberLimit,
    IpLimit,
    ShuttingDown,
    NotFollowing,
    NoLog,
    /// The client is not let in.
    Denied(Denied),
    /// Its token does not allow this; one with the scope does.
    NotPermitted(ProblemKind, Scope),
    OtherSubject,
    /// The gateway verifies tokens, and relies on this service to do so, which it does not.
    NotEnforcing,
    WaitingLimit,
    WaitingLimitOfAddress,
    /// Newer polls of the same user have taken its place.
    Crowded,
    /// The client's user or address has made too many requests, and may make one more after this time.
    RateLimited(Box<Problem>, Duration),
}

impl Refusal {
    /// Returns the refusal of an event stream, which takes the form that the client can read. One that has to do with tokens
    /// keeps its status: a client that can send a token can read that, too.
    pub(super) fn of_events(self, headers: &HeaderMap) -> Response<Body> {
        match self {
            Self::Denied(_) | Self::NotPermitted(..) => self.into_response(),
            _ => event_stream::refusal(headers, &self.problem(), self.retry_after()),
        }
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = problem::response(&self.problem(), self.retry_after());
        if let Some(challenge) = self.challenge() {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        let mut add = |name: HeaderName, value: &'static str| {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        };
        match self {
            Self::UpgradeRequired | Self::UnsupportedVersion => {
                add(header::UPGRADE, "websocket");
                // A sender of Upgrade must list it in Connection (RFC 9110, section 7.8).
                add(header::CONNECTION, "Upgrade");
                add(header::SEC_WEBSOCKET_VERSION, "13");
            }
            _ => {}
        }
        response
    }

    fn retry_after(&self) -> Duration {
        match self {
            Self::Denied(denied) => denied.retry_after().unwrap_or(RETRY_AFTER),
            Self::RateLimited(_, retry_after) => *retry_after,
            _ => RETRY_AFTER,
        }
    }

    /// Returns what the client has to send (RFC 6750, section 3).
    fn challenge(&self) -> Option<HeaderValue> {
        match self {
            Self::Denied(denied) if denied.retry_after().is_none() => {
                Some(bearer::challenge(Some(denied), None, None))
            }
            Self::NotPermitted(ProblemKind::Forbidden, scope) => {
                Some(bearer::challenge(None, Some(*scope), None))
            }
            _ => None,
        }
    }

    pub(super) fn problem(&self) -> Problem {
        let (kind, detail) = match self {
            Self::Invalid(problem) | Self::RateLimited(problem, _) => return (**problem).clone(),
            Self::Denied(denied) => return denied.problem(),
            Self::NotPermitted(ProblemKind::NotYourself, scope) => {
                let detail = format!(
                    "the token's user may follow only its own messages; others need the scope {scope}"
                );
                return Problem::new(ProblemKind::NotYourself, detail);
            }
            Self::NotPermitted(kind, scope) => {
                return Problem::new(*kind, format!("this needs a token with the scope {scope}"));
            }
            Self::OtherSubject => (
                ProblemKind::NotYourself,
                "the new token is another user's; open another WebSocket with it",
            ),
            Self::WaitingLimit => (
                ProblemKind::Overloaded,
                "too many WebSockets wait for their tokens; send the token in the handshake, or retry later",
            ),
            Self::NotEnforcing => (
                ProblemKind::Overloaded,
                "tokens are required, but this replica is not set up to verify them; its operators have to set AUTH=jwt",
            ),
            Self::Crowded => (
                ProblemKind::RateLimited,
                "newer polls of this user have taken the place of this one; make fewer at a time",
            ),
            Self::WaitingLimitOfAddress => (
                ProblemKind::TooManyFromAddress,
                "too many WebSockets of this address wait for their tokens; send the token in the handshake, or retry later",
            ),
            Self::UnknownPath => {
                (ProblemKind::UnknownPath, "unknown path; this port has /api/chat and /api/events")
            }
            Self::UpgradeRequired => (
                ProblemKind::UpgradeRequired,
                "this is a WebSocket; connect to it with ws:// or wss://",
            ),
            Self::UnsupportedVersion => {
                (ProblemKind::UpgradeRequired, "Sec-WebSocket-Version must be 13 (RFC 6455)")
            }
            Self::InvalidKey => (
                ProblemKind::BadRequest,
                "there must be exactly one Sec-WebSocket-Key, of 16 bytes in base64 (RFC 6455)",
            ),
            Self::HasBody => (
                ProblemKind::BadRequest,
                "a WebSocket handshake must have no body; send frames after the response",
            ),
            Self::OriginForbidden => (
                ProblemKind::OriginForbidden,
                "pages of this origin may not subscribe; see ALLOWED_ORIGINS",
            ),
            Self::SubscriberLimit => (
                ProblemKind::Overloaded,
                "this replica has reached its subscriber limit; retry later",
            ),
            Self::IpLimit => (
                ProblemKind::TooManyFromAddress,
                "this address has reached its subscription limit; close another subscription or retry later",
            ),
            Self::NotFollowing => (
                ProblemKind::Overloaded,
                "this replica has not read the log of changes yet; retry later",
            ),
            Self::NoLog => (
                ProblemKind::StorageUnavailable,
                "the log of changes cannot be read now; retry later",
            ),
            Self::ShuttingDown => {
                (ProblemKind::Overloaded, "this replica is shutting down; connect again")
            }
        };
        Problem::new(kind, detail)
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_token_keeps_its_status_also_for_server_sent_events() {
        let headers = HeaderMap::from_iter([(header::ACCEPT, event_stream::MEDIA_TYPE)]);
        let retry_after = Duration::from_secs(7);
        for (refusal, status, challenge) in [
            (Refusal::Denied(Denied::NoToken), 401, true),
            (Refusal::Denied(Denied::Invalid { expired: false }), 401, true),
            (Refusal::Denied(Denied::NoUser), 403, true),
            (Refusal::Denied(Denied::KeysUnavailable { retry_after }), 503, false),
            (Refusal::Denied(Denied::TooManyFailures { retry_after }), 429, false),
            (Refusal::NotPermitted(ProblemKind::NotYourself, Scope::ReadAll), 403, false),
            (Refusal::NotPermitted(ProblemKind::Forbidden, Scope::Broadcast), 403, true),
        ] {
            let response = refusal.clone().of_events(&headers);
            assert_eq!(response.status(), status, "{refusal:?}");
            let headers = response.headers();
            assert_eq!(headers.contains_key(header::WWW_AUTHENTICATE), challenge, "{refusal:?}");
            let seconds = headers.get(header::RETRY_AFTER).map(HeaderValue::as_bytes);
            assert_eq!(seconds, matches!(status, 429 | 503).then_some(&b"7"[..]), "{refusal:?}");
        }
    }

    #[test]
    fn a_limit_says_when_to_try_again() {
        for (refusal, status) in
            [(Refusal::SubscriberLimit, 503), (Refusal::IpLimit, 429), (Refusal::ShuttingDown, 503)]
        {
            let response = refusal.into_response();
            assert_eq!(response.status(), status);
            assert_eq!(response.headers()[header::RETRY_AFTER], "5");
        }
    }
}
