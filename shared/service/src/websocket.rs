//! WebSocket frames (RFC 6455, section 5.2) in one direction of a connection, followed beside whoever reads them.

/// Bytes of the longest header, and of a close code behind it.
const MAX_HEAD_BYTES: usize = 14 + 2;

/// The opcode of a close frame.
const CLOSE: u8 = 0x8;

/// The position in a stream of frames, and the code of its close frame as it was sent.
#[derive(Debug, Default)]
pub struct FrameTracker {
    head: [u8; MAX_HEAD_BYTES],
    head_length: u8,
    payload_left: u64,
    closed: bool,
    close_code: Option<u16>,
}

impl FrameTracker {
    /// Returns true between two frames, where another can be inserted.
    #[must_use]
    pub fn between_frames(&self) -> bool {
        self.head_length == 0 && self.payload_left == 0
    }

    /// Returns true if a close frame has begun.
    #[must_use]
    pub fn closed(&self) -> bool {
        self.closed
    }

    /// Returns the code of the first close frame that has one.
    #[must_use]
    pub fn close_code(&self) -> Option<u16> {
        self.close_code
    }

    /// Follows these bytes, which come next.
    pub fn advance(&mut self, mut bytes: &[u8]) {
        while let [first, rest @ ..] = bytes {
            if self.payload_left > 0 {
                let available = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                let passed = self.payload_left.min(available);
                self.payload_left -= passed;
                bytes = &bytes[usize::try_from(passed).unwrap_or(bytes.len())..];
                continue;
            }
            self.head[usize::from(self.head_length)] = *first;
            self.head_length += 1;
            bytes = rest;
            self.read_head();
        }
    }

    fn read_head(&mut self) {
        let head = &self.head[..usize::from(self.head_length)];
        let opcode = head[0] & 0x0f;
        let Some((length, mut payload)) = lengths(head) else { return };
        if opcode == CLOSE {
            self.closed = true;
            if payload >= 2 && self.close_code.is_none() {
                // The code counts as a part of the header.
                let [high, low] = head[length..] else { return };
                let [high_mask, low_mask] =
                    if is_masked(head[1]) { [head[length - 4], head[length - 3]] } else { [0, 0] };
                self.close_code = Some(u16::from_be_bytes([high ^ high_mask, low ^ low_mask]));
                payload -= 2;
            }
        }
        // No end of a frame with a reserved opcode is known. Nobody reads on there.
        let is_reserved = matches!(opcode, 0x3..=0x7 | 0xb..);
        self.payload_left = if is_reserved { u64::MAX } else { payload };
        self.head_length = 0;
    }
}

/// Returns the lengths of a header and of the payload behind it, once the header is complete.
fn lengths(head: &[u8]) -> Option<(usize, u64)> {
    let second = *head.get(1)?;
    let (extended, short) = match second & 0x7f {
        126 => (2, 0),
        127 => (8, 0),
        short => (0, u64::from(short)),
    };
    let length = 2 + extended + if is_masked(second) { 4 } else { 0 };
    let extended = head.get(..length)?[2..2 + extended].iter();
    Some((length, extended.fold(short, |payload, byte| payload << 8 | u64::from(*byte))))
}

fn is_masked(second: u8) -> bool {
    second & 0x80 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: [usize; 4] = [1, 3, 7, 1000];

    fn frame(first: u8, length: &[u8], payload: &[u8]) -> Vec<u8> {
        const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
        let masked = payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        [&[first], length, &MASK].concat().into_iter().chain(masked).collect()
    }

    /// Frames of each form of length, with payloads that look like close frames.
    fn frames() -> Vec<Vec<u8>> {
        vec![
            frame(0x82, &[0x80], b""),
            frame(0x81, &[0x80 | 5], &[0x88; 5]),
            frame(0x82, &[0x80 | 0x7e, 1, 4], &[0x88; 260]),
            frame(0x82, &[0x80 | 0x7f, 0, 0, 0, 0, 0, 1, 0, 2], &[0x88; 65_538]),
            vec![0x89, 0],
        ]
    }

    #[test]
    fn the_position_is_known_however_the_bytes_arrive() {
        let frames = [frames(), vec![frame(0x88, &[0x80 | 5], b"\x03\xe8why")], frames()].concat();
        let ends: Vec<usize> = frames
            .iter()
            .scan(0, |end, frame| {
                *end += frame.len();
                Some(*end)
            })
            .collect();
        let stream = frames.concat();
        for step in STEPS {
            let mut tracker = FrameTracker::default();
            let mut passed = 0;
            for bytes in stream.chunks(step) {
                tracker.advance(bytes);
                passed += bytes.len();
                assert_eq!(tracker.between_frames(), ends.contains(&passed), "at {passed}");
            }
        }
    }

    #[test]
    fn the_close_code_is_read_however_the_bytes_arrive() {
        let before = frames().concat();
        for (close, closed, code) in [
            (frame(0x88, &[0x80 | 5], b"\x03\xe8why"), true, Some(1000)),
            (frame(0x88, &[0x80 | 2], b"\x03\xed"), true, Some(1005)),
            (frame(0x88, &[0x80 | 0x7f, 0, 0, 0, 0, 0, 0, 0, 2], b"\x03\xea"), true, Some(1002)),
            (vec![0x88, 2, 0x03, 0xeb], true, Some(1003)),
            (vec![0x88, 2, 0x03, 0xeb, 0x88, 2, 0x03, 0xec], true, Some(1003)),
            (vec![0x88, 1, 0x03, 0x82, 2, 0x03, 0xeb], true, None),
            (vec![0x88, 0], true, None),
            // A reserved opcode: what is behind it is no frame.
            (vec![0x83, 0, 0x88, 2, 0x03, 0xeb], false, None),
            (vec![0x8b, 0, 0x88, 2, 0x03, 0xeb], false, None),
            (vec![], false, None),
        ] {
            let behind: &[u8] = if code.is_some() { &[0x88; 50] } else { &[] };
            let stream = [&before, &close, behind].concat();
            for step in STEPS {
                let mut tracker = FrameTracker::default();
                stream.chunks(step).for_each(|bytes| tracker.advance(bytes));
                assert_eq!(tracker.close_code(), code, "{close:?} by {step}");
                assert_eq!(tracker.closed(), closed, "{close:?} by {step}");
            }
        }
    }
}
