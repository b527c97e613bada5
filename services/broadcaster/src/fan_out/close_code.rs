//! The code in a subscriber's close frame, as it was sent. The WebSocket library replaces one that must not be sent, and
//! hands out its reply only: the metric could not tell that from a close with the reply's own code.

use std::io::Cursor;

use tokio_tungstenite::tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, OpCode},
};

/// Bytes of the longest header, and of a code behind it.
const MAX_HEAD_BYTES: usize = 14 + 2;

/// Follows a stream of frames up to the code of its close frame.
#[derive(Debug, Default)]
pub(super) struct CloseCode {
    head: [u8; MAX_HEAD_BYTES],
    head_length: u8,
    payload_left: u64,
    code: Option<u16>,
}

impl CloseCode {
    /// Returns the code, once it was read.
    pub(super) fn get(&self) -> Option<u16> {
        self.code
    }

    /// Reads on.
    pub(super) fn advance(&mut self, mut bytes: &[u8]) {
        while let [first, rest @ ..] = bytes
            && self.code.is_none()
        {
            if self.payload_left > 0 {
                let available = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                let passed = self.payload_left.min(available);
                self.payload_left -= passed;
                bytes = &bytes[usize::try_from(passed).unwrap_or(bytes.len())..];
                continue;
            }
            bytes = rest;
            let Some(next) = self.head.get_mut(usize::from(self.head_length)) else { return };
            *next = *first;
            self.head_length += 1;
            self.read_head();
        }
    }

    fn read_head(&mut self) {
        let head = &self.head[..usize::from(self.head_length)];
        let mut read = Cursor::new(head);
        let (header, payload) = match FrameHeader::parse(&mut read) {
            Ok(Some(read)) => read,
            Ok(None) => return,
            // The library reads nothing behind it, either.
            Err(_) => {
                self.payload_left = u64::MAX;
                return;
            }
        };
        if header.opcode == OpCode::Control(Control::Close) && payload >= 2 {
            let start = usize::try_from(read.position()).unwrap_or(head.len());
            if let [high, low] = head[start..] {
                let [high_mask, low_mask, ..] = header.mask.unwrap_or_default();
                self.code = Some(u16::from_be_bytes([high ^ high_mask, low ^ low_mask]));
            }
            return;
        }
        (self.head_length, self.payload_left) = (0, payload);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, length: &[u8], payload: &[u8]) -> Vec<u8> {
        const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
        let masked = payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        [&[first], length, &MASK].concat().into_iter().chain(masked).collect()
    }

    #[test]
    fn the_code_is_read_however_the_bytes_arrive() {
        let before = [
            frame(0x81, &[0x80 | 5], &[0x88; 5]),
            frame(0x82, &[0x80 | 0x7e, 1, 4], &[0x88; 260]),
            frame(0x89, &[0x80], b""),
        ]
        .concat();
        let behind = [0x88; 50];
        for (close, code) in [
            (frame(0x88, &[0x80 | 5], b"\x03\xe8why"), Some(1000)),
            (frame(0x88, &[0x80 | 2], b"\x03\xed"), Some(1005)),
            (frame(0x88, &[0x80 | 0x7f, 0, 0, 0, 0, 0, 0, 0, 2], b"\x03\xea"), Some(1002)),
            (vec![0x88, 2, 0x03, 0xeb], Some(1003)),
            // A reserved opcode: what is behind it is no frame.
            (vec![0x83, 0, 0x88, 2, 0x03, 0xeb], None),
            (vec![], None),
        ] {
            let ends: &[u8] = if code.is_some() { &behind } else { &[] };
            let stream = [&before, &close, ends].concat();
            for step in [1, 3, 7, 1000] {
                let mut watch = CloseCode::default();
                stream.chunks(step).for_each(|bytes| watch.advance(bytes));
                assert_eq!(watch.get(), code, "{close:?} by {step}");
            }
        }
    }
}
