//! Reasons to close a session (RFC 6455, section 7.4). `/asyncapi.json` lists all of them.

use tokio_tungstenite::tungstenite::{
    Error,
    error::ProtocolError,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

/// The close code of a subscriber that has no valid token, or no longer.
const UNAUTHENTICATED: u16 = 4001;

/// The close code of a subscriber whose token does not allow this.
const FORBIDDEN: u16 = 4003;

/// The close code of a subscriber that does not keep up. RFC 6455 leaves 4000–4999 to applications.
const TOO_SLOW: u16 = 4008;

/// The close code of an event stream that newer ones of its user have displaced.
const DISPLACED: u16 = 4009;

/// A reason for which this side closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseReason {
    Stopping,
    ProtocolError,
    NotUtf8,
    TooLarge,
    SlowConsumer,
    PongTimeout,
    Aged,
    Displaced,
    Expired,
    Unauthenticated,
    Forbidden,
    Unavailable,
}

impl CloseReason {
    pub(super) const ALL: [Self; 12] = [
        Self::Stopping,
        Self::ProtocolError,
        Self::NotUtf8,
        Self::TooLarge,
        Self::SlowConsumer,
        Self::PongTimeout,
        Self::Aged,
        Self::Displaced,
        Self::Expired,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::Unavailable,
    ];

    /// Returns the reason to close a subscriber after this error of its socket; `None` if it is gone.
    pub(super) fn of(error: &Error) -> Option<Self> {
        match error {
            Error::Capacity(_) => Some(Self::TooLarge),
            Error::Utf8(_) => Some(Self::NotUtf8),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
            Error::Protocol(_) => Some(Self::ProtocolError),
            _ => None,
        }
    }

    /// Returns true unless only event streams are closed for this reason.
    pub(super) fn of_broadcast(self) -> bool {
        self != Self::Aged
    }

    pub(super) fn frame(self) -> CloseFrame {
        CloseFrame { code: self.code(), reason: self.text().into() }
    }

    /// Returns the value of the metric's label.
    pub(super) fn label(self) -> &'static str {
        self.parts().0
    }

    pub(super) fn code(self) -> CloseCode {
        self.parts().1
    }

    pub(super) fn text(self) -> &'static str {
        self.parts().2
    }

    fn parts(self) -> (&'static str, CloseCode, &'static str) {
        let too_slow = CloseCode::Library(TOO_SLOW);
        let unauthenticated = CloseCode::Library(UNAUTHENTICATED);
        match self {
            Self::Stopping => ("stopping", CloseCode::Away, "going away"),
            Self::ProtocolError => {
                // The library's own words: it also replies with them by itself.
                ("protocol_error", CloseCode::Protocol, "Protocol violation")
            }
            Self::NotUtf8 => ("not_utf8", CloseCode::Invalid, "text is not UTF-8"),
            Self::TooLarge => ("too_large", CloseCode::Size, "message is too large"),
            Self::SlowConsumer => ("slow_consumer", too_slow, "slow consumer"),
            Self::PongTimeout => ("pong_timeout", too_slow, "no pong received"),
            Self::Aged => ("aged", CloseCode::Away, "lasted long enough"),
            Self::Displaced => {
                ("displaced", CloseCode::Library(DISPLACED), "displaced by newer streams")
            }
            Self::Expired => ("expired", unauthenticated, "token expired"),
            Self::Unauthenticated => ("unauthenticated", unauthenticated, "no valid token"),
            Self::Forbidden => ("forbidden", CloseCode::Library(FORBIDDEN), "not allowed"),
            Self::Unavailable => ("unavailable", CloseCode::Again, "try again later"),
        }
    }
}
