//! Why this server closes a subscriber, and how it says so (RFC 6455, section 7.4).
//! `/asyncapi.json` tells clients of all of them.

use tokio_tungstenite::tungstenite::{
    Error,
    error::ProtocolError,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

/// The close code of a subscriber that does not keep up, from the range that RFC 6455 leaves to
/// applications.
const TOO_SLOW: u16 = 4008;

/// Why this side closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Stopping,
    BadProtocol,
    NotUtf8,
    TooLarge,
    SlowConsumer,
    PongTimeout,
}

impl Reason {
    pub(crate) const ALL: [Self; 6] = [
        Self::Stopping,
        Self::BadProtocol,
        Self::NotUtf8,
        Self::TooLarge,
        Self::SlowConsumer,
        Self::PongTimeout,
    ];

    /// What a subscriber is closed for that made the socket fail like this; none where it is gone.
    pub(crate) fn of(error: &Error) -> Option<Self> {
        match error {
            Error::Capacity(_) => Some(Self::TooLarge),
            Error::Utf8(_) => Some(Self::NotUtf8),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
            Error::Protocol(_) => Some(Self::BadProtocol),
            _ => None,
        }
    }

    /// The close frame.
    pub(crate) fn frame(self) -> CloseFrame {
        CloseFrame { code: self.code(), reason: self.text().into() }
    }

    /// What this is counted as.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stopping => "stopping",
            Self::BadProtocol => "bad_protocol",
            Self::NotUtf8 => "not_utf8",
            Self::TooLarge => "too_large",
            Self::SlowConsumer => "takes_nothing",
            Self::PongTimeout => "mute",
        }
    }

    pub(crate) fn code(self) -> CloseCode {
        match self {
            Self::Stopping => CloseCode::Away,
            Self::BadProtocol => CloseCode::Protocol,
            Self::NotUtf8 => CloseCode::Invalid,
            Self::TooLarge => CloseCode::Size,
            Self::SlowConsumer | Self::PongTimeout => CloseCode::Library(TOO_SLOW),
        }
    }

    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Stopping => "going away",
            Self::BadProtocol => "this is not RFC 6455",
            Self::NotUtf8 => "a text is not UTF-8",
            Self::TooLarge => "a message may have 4096 bytes",
            Self::SlowConsumer => "frames are not taken",
            Self::PongTimeout => "pings are not answered",
        }
    }
}
