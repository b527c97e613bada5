//! Reasons to close a subscriber's session (RFC 6455, section 7.4). `/asyncapi.json` lists all of them.

use tokio_tungstenite::tungstenite::{
    Error,
    error::ProtocolError,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

/// The close code of a subscriber that does not keep up, from the range that RFC 6455 leaves to applications.
const TOO_SLOW: u16 = 4008;

/// A reason for which this side closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseReason {
    Stopping,
    ProtocolError,
    NotUtf8,
    TooLarge,
    SlowConsumer,
    PongTimeout,
}

impl CloseReason {
    pub(super) const ALL: [Self; 6] = [
        Self::Stopping,
        Self::ProtocolError,
        Self::NotUtf8,
        Self::TooLarge,
        Self::SlowConsumer,
        Self::PongTimeout,
    ];

    /// Returns the reason to close a subscriber that caused this error of its socket; `None` if it is gone.
    pub(super) fn of(error: &Error) -> Option<Self> {
        match error {
            Error::Capacity(_) => Some(Self::TooLarge),
            Error::Utf8(_) => Some(Self::NotUtf8),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
            Error::Protocol(_) => Some(Self::ProtocolError),
            _ => None,
        }
    }

    /// Returns the close frame.
    pub(super) fn frame(self) -> CloseFrame {
        CloseFrame { code: self.code(), reason: self.text().into() }
    }

    /// Returns the value of the metric's label.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Stopping => "stopping",
            Self::ProtocolError => "protocol_error",
            Self::NotUtf8 => "not_utf8",
            Self::TooLarge => "too_large",
            Self::SlowConsumer => "slow_consumer",
            Self::PongTimeout => "pong_timeout",
        }
    }

    pub(super) fn code(self) -> CloseCode {
        match self {
            Self::Stopping => CloseCode::Away,
            Self::ProtocolError => CloseCode::Protocol,
            Self::NotUtf8 => CloseCode::Invalid,
            Self::TooLarge => CloseCode::Size,
            Self::SlowConsumer | Self::PongTimeout => CloseCode::Library(TOO_SLOW),
        }
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Stopping => "going away",
            Self::ProtocolError => "protocol error (RFC 6455)",
            Self::NotUtf8 => "text message is not UTF-8",
            Self::TooLarge => "message is larger than 4096 bytes",
            Self::SlowConsumer => "slow consumer",
            Self::PongTimeout => "no pong received",
        }
    }
}
