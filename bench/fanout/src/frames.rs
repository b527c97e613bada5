//! The client's half of RFC 6455, as far as measuring needs it: it separates frames, and reads only the id of
//! a message.

/// Position of a message's id, after `{"id":"`.
const ID: std::ops::Range<usize> = 7..43;

/// A message's id, as it is written.
pub(crate) type Id = [u8; ID.end - ID.start];

/// A completely received frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// A text frame with a message of this id.
    Message(Id),
    Ping,
    /// The close code.
    Close(u16),
    /// Anything else, which a server of this protocol has no reason to send.
    Other,
}

/// Takes the bytes of one connection as they come.
#[derive(Clone, Debug, Default)]
pub(crate) struct FrameReader {
    opcode: u8,
    header: Vec<u8>,
    /// The first bytes of the payload, up to the id's end.
    start: Vec<u8>,
    /// Missing bytes of the payload; none while the header is incomplete.
    missing: Option<usize>,
}

impl FrameReader {
    /// Takes `bytes` and reports every frame that they complete.
    pub(crate) fn take(&mut self, mut bytes: &[u8], mut report: impl FnMut(Received)) {
        loop {
            let missing = match self.missing {
                Some(missing) => missing,
                None => match self.take_header(&mut bytes) {
                    Some(missing) => missing,
                    None => return,
                },
            };
            let (now, later) = bytes.split_at(missing.min(bytes.len()));
            let kept = now.len().min(ID.end.saturating_sub(self.start.len()));
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

    /// The payload's length, once the header is complete.
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

    fn received(&self) -> Received {
        match self.opcode {
            1 => self
                .start
                .get(ID)
                .and_then(|id| id.try_into().ok())
                .map_or(Received::Other, Received::Message),
            8 => match self.start.as_slice() {
                [high, low, ..] => Received::Close(u16::from_be_bytes([*high, *low])),
                _ => Received::Close(1005),
            },
            9 => Received::Ping,
            _ => Received::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let text = format!(r#"{{"id":"{}","content":"{}"}}"#, "i".repeat(36), "x".repeat(200));
        let mut bytes = vec![0x81, 126];
        bytes.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
        bytes.extend(text.as_bytes());
        bytes.extend([0x89, 0, 0x88, 2, 0x03, 0xe9, 0x81, 1, b'x']);
        for cut in 1..bytes.len() {
            let mut reader = FrameReader::default();
            let mut received = Vec::new();
            for piece in bytes.chunks(cut) {
                reader.take(piece, |frame| received.push(frame));
            }
            let message = Received::Message([b'i'; 36]);
            assert_eq!(
                received,
                [message, Received::Ping, Received::Close(1001), Received::Other],
                "{cut}"
            );
        }
    }
}
