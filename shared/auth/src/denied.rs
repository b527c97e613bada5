//! Why a request is not let in.

use std::time::Duration;

use contracts::ProblemKind;

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
    /// 503: The key that may have signed the token is not known at present.
    #[error("the keys that verify tokens are not known at present")]
    KeysUnavailable {
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
            Self::KeysUnavailable { .. } => ProblemKind::KeysUnavailable,
            Self::TooManyFailures { .. } => ProblemKind::RateLimited,
        }
    }

    /// Returns the time after which the same request may succeed.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::KeysUnavailable { retry_after } | Self::TooManyFailures { retry_after } => {
                Some(*retry_after)
            }
            Self::NoToken | Self::Invalid { .. } | Self::NoUser => None,
        }
    }
}
