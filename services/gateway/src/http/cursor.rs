//! The opaque cursor that names where the next page of a list begins.

use std::{fmt, str::FromStr};

use contracts::{MessageId, Timestamp};
use store::Position;
use uuid::Uuid;

/// A position, written as hexadecimal digits: 16 of its timestamp in milliseconds, 32 of its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor(pub(crate) Position);

/// Error: the text is not a cursor.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct InvalidCursor;

impl fmt::Display for Cursor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.publish_timestamp.unix_millis();
        write!(formatter, "{millis:016x}{}", Uuid::from(self.0.id).simple())
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 48 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(InvalidCursor);
        }
        let (millis, id) = text.split_at(16);
        // Written as its bits: a time before 1970 is negative.
        let millis = u64::from_str_radix(millis, 16).map_err(|_| InvalidCursor)?.cast_signed();
        Ok(Self(Position {
            publish_timestamp: Timestamp::from_unix_millis(millis).map_err(|_| InvalidCursor)?,
            id: id.parse::<MessageId>().map_err(|_| InvalidCursor)?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_text_form() {
        let cursor =
            Cursor(Position { publish_timestamp: Timestamp::now(), id: MessageId::generate() });
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        assert_eq!("abc".parse::<Cursor>(), Err(InvalidCursor));
        assert_eq!("f".repeat(47).parse::<Cursor>(), Err(InvalidCursor));
        assert_eq!("7f".repeat(24).parse::<Cursor>(), Err(InvalidCursor));
        assert_eq!("é".repeat(24).parse::<Cursor>(), Err(InvalidCursor));
    }
}
