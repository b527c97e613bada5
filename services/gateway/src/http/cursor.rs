//! The opaque cursor that names where the next page of a list begins: 16 hexadecimal digits of a
//! timestamp in milliseconds, 32 of a message's id.

use contracts::Timestamp;
use store::Position;
use uuid::Uuid;

/// Returns the cursor of a position.
pub(crate) fn encode(position: Position) -> String {
    let millis = position.publish_timestamp.unix_millis();
    format!("{millis:016x}{}", Uuid::from(position.id).simple())
}

/// Returns the position of a cursor, `None` if the text is not a cursor.
pub(crate) fn decode(text: &str) -> Option<Position> {
    if text.len() != 48 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let (millis, id) = text.split_at(16);
    // Written as its bits: a time before 1970 is negative.
    let millis = u64::from_str_radix(millis, 16).ok()?.cast_signed();
    let publish_timestamp = Timestamp::from_unix_millis(millis).ok()?;
    Some(Position { publish_timestamp, id: id.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use contracts::MessageId;

    use super::*;

    #[test]
    fn a_cursor_survives_its_text_form() {
        let position = Position { publish_timestamp: Timestamp::now(), id: MessageId::generate() };
        assert_eq!(decode(&encode(position)), Some(position));
        assert_eq!(decode("abc"), None);
        assert_eq!(decode(&"f".repeat(47)), None);
        assert_eq!(decode(&"7f".repeat(24)), None);
        assert_eq!(decode(&"é".repeat(24)), None);
    }
}
