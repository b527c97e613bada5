//! The client's half of RFC 6455, as far as measuring needs it.

/// A pong without content, masked with zeros.
pub const PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];

/// A completely received frame. It borrows the beginning of its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A text frame.
    Text(&'a [u8]),
    /// A ping.
    Ping,
    /// The close code.
    Close(u16),
    /// Anything else, which a server of this project has no reason to send.
    Other,
}

/// Takes the bytes of one connection as they come.
#[derive(Clone, Debug)]
pub struct FrameReader {
    /// Maximum number of bytes of a payload that are kept.
    kept: usize,
    opcode: u8,
    header: Vec<u8>,
    start: Vec<u8>,
    /// Missing bytes of the payload; none while the header is incomplete.
    missing: Option<usize>,
}

impl FrameReader {
    /// Returns a reader that keeps the first `kept` bytes of each payload.
    #[must_use]
    pub fn new(kept: usize) -> Self {
        Self { kept, opcode: 0, header: Vec::new(), start: Vec::new(), missing: None }
    }

    /// Takes `bytes` and reports every frame that they complete.
    pub fn take(&mut self, mut bytes: &[u8], mut report: impl FnMut(Frame<'_>)) {
        loop {
            let missing = match self.missing {
                Some(missing) => missing,
                None => match self.take_header(&mut bytes) {
                    Some(missing) => missing,
                    None => return,
                },
            };
            let (now, later) = bytes.split_at(missing.min(bytes.len()));
            let kept = now.len().min(self.kept.saturating_sub(self.start.len()));
            self.start.extend(now.iter().take(kept));
            bytes = later;
            if now.len() < missing {
                self.missing = Some(missing - now.len());
                return;
            }
            report(self.received());
            self.missing = None;
            self.start.clear();
        }
    }

    /// Returns the payload's length, once the header is complete.
    fn take_header(&mut self, bytes: &mut &[u8]) -> Option<usize> {
        loop {
            let length = match self.header.as_slice() {
                [_, length] if *length < 126 => Some(usize::from(*length)),
                [_, 126, high, low] => Some(usize::from(u16::from_be_bytes([*high, *low]))),
                _ => None,
            };
            if let Some(length) = length {
                self.opcode = self.header.first().copied().unwrap_or_default() & 0x0f;
                self.header.clear();
                return Some(length);
            }
            let (first, rest) = bytes.split_first()?;
            self.header.push(*first);
            *bytes = rest;
        }
    }

    fn received(&self) -> Frame<'_> {
        match self.opcode {
            1 => Frame::Text(&self.start),
            8 => match self.start.as_slice() {
                [high, low, ..] => Frame::Close(u16::from_be_bytes([*high, *low])),
                _ => Frame::Close(1005),
            },
            9 => Frame::Ping,
            _ => Frame::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let text = "x".repeat(200);
        let mut bytes = vec![0x81, 126, 0, 200];
        bytes.extend(text.as_bytes());
        bytes.extend([0x89, 0, 0x88, 2, 0x03, 0xe9, 0x82, 1, b'x']);
        for cut in 1..bytes.len() {
            let mut reader = FrameReader::new(150);
            let mut received = Vec::new();
            for piece in bytes.chunks(cut) {
                reader.take(piece, |frame| received.push(format!("{frame:?}")));
            }
            let expected = [
                Frame::Text(&text.as_bytes()[..150]),
                Frame::Ping,
                Frame::Close(1001),
                Frame::Other,
            ];
            assert_eq!(received, expected.map(|frame| format!("{frame:?}")), "{cut}");
        }
    }
}
