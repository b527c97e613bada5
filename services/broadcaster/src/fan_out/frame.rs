//! Frames: what goes out to all subscribers at a tick.

use std::str::Utf8Error;

use bytes::Bytes;
use tokio_tungstenite::tungstenite::{
    self,
    protocol::frame::{
        FrameHeader,
        coding::{Data, OpCode},
    },
};

/// Maximum size of a payload. The largest message, with each character escaped in six, is about 25 KB.
pub(crate) const MAX_PAYLOAD_BYTES: usize = 32 * 1024;

/// A payload and its encodings, one for each transport. All subscribers share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Frame {
    /// Counts from 1; the hub sets it.
    pub(super) number: u64,
    payload: Bytes,
    websocket: Bytes,
}

/// A payload that cannot be sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidPayload {
    #[error("it has {0} bytes, and {MAX_PAYLOAD_BYTES} are allowed")]
    TooLarge(usize),
    #[error("it is not UTF-8")]
    NotUtf8(#[from] Utf8Error),
    #[error("it cannot be encoded as a WebSocket frame")]
    WebSocket(#[from] tungstenite::Error),
}

impl Frame {
    pub(crate) fn new(payload: &[u8]) -> Result<Self, InvalidPayload> {
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err(InvalidPayload::TooLarge(payload.len()));
        }
        std::str::from_utf8(payload)?;
        let websocket = encode_websocket(payload)?;
        // Every encoding so far contains the payload as it is, so it needs no memory of its own.
        let payload = websocket.slice(websocket.len() - payload.len()..);
        Ok(Self { number: 0, payload, websocket })
    }

    /// Returns the frame with this number instead.
    pub(crate) fn numbered(self, number: u64) -> Self {
        Self { number, ..self }
    }

    /// Returns the JSON of a message.
    pub(crate) fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Returns a text frame (RFC 6455, section 5.2).
    pub(crate) fn websocket(&self) -> &Bytes {
        &self.websocket
    }
}

fn encode_websocket(payload: &[u8]) -> Result<Bytes, tungstenite::Error> {
    let header = FrameHeader { opcode: OpCode::Data(Data::Text), ..FrameHeader::default() };
    let length = payload.len() as u64;
    let mut encoded = Vec::with_capacity(header.len(length) + payload.len());
    header.format(length, &mut encoded)?;
    encoded.extend(payload);
    Ok(encoded.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_its_payload_and_a_websocket_encoding() {
        let frame = Frame::new(b"{}").unwrap();
        assert_eq!(frame.payload(), &b"{}"[..]);
        assert_eq!(frame.websocket(), &[0x81, 2, b'{', b'}'][..]);
    }

    #[test]
    fn a_payload_that_no_subscriber_could_take_is_refused() {
        assert!(matches!(Frame::new(&[0xff]), Err(InvalidPayload::NotUtf8(_))));
        let too_large = vec![b'x'; MAX_PAYLOAD_BYTES + 1];
        assert!(matches!(Frame::new(&too_large), Err(InvalidPayload::TooLarge(_))));
    }
}
