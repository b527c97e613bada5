//! Places in a body, and what stands there.

use std::fmt;

/// Maximum characters that are quoted from the body.
const MAX_QUOTED_CHARACTERS: usize = 20;

/// Returns true for a byte of a name, a literal or a number.
pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_.+-".contains(&byte)
}

/// A place in a body.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) offset: usize,
    line: usize,
    /// In characters.
    column: usize,
}

impl Place {
    /// Returns the place of the byte at which the parser stopped.
    pub(super) fn of_error(body: &[u8], error: &serde_json::Error) -> Self {
        let lines = body.split_inclusive(|byte| *byte == b'\n');
        let before: usize = lines.take(error.line().saturating_sub(1)).map(<[u8]>::len).sum();
        // The column is 0 if it is the end of the line before.
        Self::of_offset(body, (before + error.column()).saturating_sub(1))
    }

    pub(super) fn of_offset(body: &[u8], offset: usize) -> Self {
        let offset = offset.min(body.len().saturating_sub(1));
        let before = &body[..offset];
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let line = before.split(|byte| *byte == b'\n').count();
        let column = 1 + String::from_utf8_lossy(&before[line_start..]).chars().count();
        Self { offset, line, column }
    }

    /// Returns the place of the last escaped surrogate up to here.
    pub(super) fn of_surrogate(self, body: &[u8]) -> Self {
        let is_surrogate = |window: &[u8]| {
            let [b'\\', b'u', first, second] = window else { return false };
            first.eq_ignore_ascii_case(&b'd')
                && matches!(second, b'8' | b'9' | b'a'..=b'f' | b'A'..=b'F')
        };
        let at = body[..=self.offset].windows(4).rposition(is_surrogate);
        at.map_or(self, |at| Self::of_offset(body, at))
    }

    /// Returns the place of the last byte of the word that ends before this one, unless a word is here.
    pub(super) fn of_word(self, body: &[u8]) -> Self {
        let before = body[..self.offset].last();
        let ends_before = !is_word(body[self.offset]) && before.is_some_and(|byte| is_word(*byte));
        if ends_before { Self::of_offset(body, self.offset - 1) } else { self }
    }

    /// Returns what stands here, in backquotes: a whole word or a single character.
    pub(super) fn found(self, body: &[u8]) -> String {
        let text = String::from_utf8_lossy(&body[self.offset..]);
        let is_escape = body[self.offset] == b'\\';
        let first = text.chars().next().unwrap_or_default();
        if !is_escape && !is_word(body[self.offset]) {
            return if first.is_control() {
                format!("`{}`", first.escape_default())
            } else {
                format!("`{first}`")
            };
        }
        let before = body[..self.offset].iter().rposition(|byte| !is_word(*byte));
        let start = if is_escape { self.offset } else { before.map_or(0, |at| at + 1) };
        let word = body[start..].iter().enumerate();
        let end = word.skip(1).find(|(_, byte)| !is_word(**byte)).map(|(at, _)| start + at);
        let word = &body[start..end.unwrap_or(body.len())];
        let ellipsis = if word.len() > MAX_QUOTED_CHARACTERS { "…" } else { "" };
        // Words and escapes are ASCII.
        let word = &word[..word.len().min(MAX_QUOTED_CHARACTERS)];
        format!("`{}{ellipsis}`", String::from_utf8_lossy(word))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "at line {}, column {}", self.line, self.column)
    }
}
