//! Refused handshakes, as problems (RFC 9457).

use std::time::Duration;

use contracts::{Problem, ProblemKind};
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
}

impl Refusal {
    /// Returns the refusal of an event stream, which takes the form that the client can read.
    pub(super) fn of_events(&self, headers: &HeaderMap) -> Response<Body> {
        event_stream::refusal(headers, &self.problem(), RETRY_AFTER)
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = problem::response(&self.problem(), RETRY_AFTER);
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

    fn problem(&self) -> Problem {
        let (kind, detail) = match self {
            Self::Invalid(problem) => return (**problem).clone(),
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

#[cfg(test)]
mod tests {
    use super::*;

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
