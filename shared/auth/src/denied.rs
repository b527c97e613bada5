//! Why a request is not let in.

use std::time::Duration;

use contracts::{Problem, ProblemKind};

/// Why a request is not let in. Clients are told no more than this; the log says why a token is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// 401: The request has no token.
    #[error("the request has no token")]
    NoToken,
    /// 401: The token is not valid.
    #[error("the token is not valid")]
    Invalid {
        /// True if it was valid before. Such a token is no attempt to guess one.
        expired: bool,
    },
    /// 403: The token is valid, but its user claim is no user id, and it has no scope of this API.
    #[error("the token names no user and has no scope of this API")]
    NoUser,
    /// 400: A handshake has two tokens that differ.
    #[error("the request has two tokens")]
    TwoTokens,
    /// 503: There are no keys at present.
    #[error("the keys that verify tokens are not known at present")]
    KeysUnavailable {
        /// Time after which they may be known.
        retry_after: Duration,
    },
    /// 503: There are keys, but not the one that the token names. The issuer may have published it since.
    #[error("the key that the token names is not known at present")]
    UnknownKey {
        /// Time after which it may be known.
        retry_after: Duration,
    },
    /// 429: Too many invalid tokens came from this address.
    #[error("too many invalid tokens came from this address")]
    TooManyFailures {
        /// Time after which another one may be tried.
        retry_after: Duration,
    },
}

impl Denied {
    /// Returns the kind of the problem that refuses the request.
    #[must_use]
    pub const fn kind(&self) -> ProblemKind {
        match self {
            Self::NoToken | Self::Invalid { .. } => ProblemKind::Unauthenticated,
            Self::NoUser => ProblemKind::Forbidden,
            Self::TwoTokens => ProblemKind::BadRequest,
            Self::KeysUnavailable { .. } | Self::UnknownKey { .. } => ProblemKind::KeysUnavailable,
            Self::TooManyFailures { .. } => ProblemKind::RateLimited,
        }
    }

    /// Returns the time after which the same request may succeed.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::KeysUnavailable { retry_after }
            | Self::UnknownKey { retry_after }
            | Self::TooManyFailures { retry_after } => Some(*retry_after),
            Self::NoToken | Self::Invalid { .. } | Self::NoUser | Self::TwoTokens => None,
        }
    }

    /// Returns the problem that refuses the request. All tokens that are not valid look the same: which of the checks one has
    /// failed is for the log only.
    #[must_use]
    pub fn problem(&self) -> Problem {
        let detail = match self {
            Self::NoToken => {
                "this needs a token; send it as Authorization: Bearer TOKEN, or see docs/events.md for browsers"
            }
            Self::Invalid { .. } => "the token is not valid, or no longer; get a new one",
            Self::NoUser => {
                "the token's user claim is no user id, and the token has no scope of this API"
            }
            Self::TwoTokens => {
                "the tokens in Authorization and in Sec-WebSocket-Protocol differ; send one of them"
            }
            Self::KeysUnavailable { .. } | Self::UnknownKey { .. } => {
                "the token cannot be verified at present, because the issuer's keys are not known; retry later"
            }
            Self::TooManyFailures { .. } => {
                "too many invalid tokens came from this address; retry later with a valid one"
            }
        };
        Problem::new(self.kind(), detail)
    }
}
