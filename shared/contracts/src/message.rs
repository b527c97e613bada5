//! A message, and the validated types of its parts.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{MessageId, Timestamp};

/// Version of a message: 1 when created, one more with each edit, and with the deletion. The `ETag` is this number in
/// quotes.
pub type Version = u64;

/// A message, as clients see it and as WebSocket frames carry it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(examples(json!({
    "id": "0199f0c1-6a3e-7c55-9d0e-2f4b8a6c1e11",
    "from_user_id": "alice",
    "to_user_id": "bob",
    "content": "hello",
    "publish_timestamp": "2026-11-22T12:00:00.123Z",
    "edit_timestamp": null,
})))]
pub struct Message {
    /// Id, chosen by the gateway.
    pub id: MessageId,
    /// Sender.
    pub from_user_id: UserId,
    /// Recipient.
    pub to_user_id: UserId,
    /// Text.
    pub content: Content,
    /// Time at which the gateway accepted it. Never changes.
    pub publish_timestamp: Timestamp,
    /// Time of the last edit, `null` before the first. Never decreases.
    #[schema(required)]
    pub edit_timestamp: Option<Timestamp>,
}

/// A stored message and its version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionedMessage {
    /// Message.
    pub message: Message,
    /// Version of the message.
    pub version: Version,
}

/// Sender or recipient: 1–64 characters, no control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(
    min_length = 1,
    max_length = 64,
    pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$",
    examples("alice")
)]
pub struct UserId(String);

/// Text of a message: 1–4000 characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(min_length = 1, max_length = 4000, examples("hello"))]
pub struct Content(String);

/// Invalid text for a [`UserId`] or a [`Content`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidText {
    /// The text is empty.
    #[error("must have at least 1 character")]
    Empty,
    /// The text is too long.
    #[error("must have at most {max_characters} characters")]
    TooLong {
        /// Maximum number of characters.
        max_characters: usize,
    },
    /// The text has a control character (Unicode category Cc).
    #[error("must not contain control characters")]
    ControlCharacter,
}

impl UserId {
    /// Maximum number of characters (Unicode scalar values).
    pub const MAX_CHARACTERS: usize = 64;

    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the decimal digits of an integer that is written as a floating-point number: as in JSON
    /// Schema, 1.0 is the integer 1. Returns `None` if it has a fraction, or if rounding may have turned
    /// another user's id into it.
    #[must_use]
    pub fn integer_text(number: f64) -> Option<String> {
        /// 2 to the 53rd, below which each integer has a floating-point number of its own.
        const EXACT: f64 = 9_007_199_254_740_992.0;

        let exact = number.fract() == 0.0 && number.abs() < EXACT;
        // No fraction, no exponent, and 0 instead of -0.
        exact.then(|| format!("{:.0}", number + 0.0))
    }
}

impl TryFrom<String> for UserId {
    type Error = InvalidText;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        check_length(&text, Self::MAX_CHARACTERS)?;
        if text.chars().any(char::is_control) {
            return Err(InvalidText::ControlCharacter);
        }
        Ok(Self(text))
    }
}

impl Content {
    /// Maximum number of characters (Unicode scalar values).
    pub const MAX_CHARACTERS: usize = 4000;

    /// Returns the content as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Content {
    type Error = InvalidText;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        check_length(&text, Self::MAX_CHARACTERS)?;
        Ok(Self(text))
    }
}

impl From<Content> for String {
    fn from(content: Content) -> Self {
        content.0
    }
}

fn check_length(text: &str, max_characters: usize) -> Result<(), InvalidText> {
    if text.is_empty() {
        return Err(InvalidText::Empty);
    }
    // A character is at most four bytes, so most texts need no counting.
    if text.len() > max_characters && text.chars().count() > max_characters {
        return Err(InvalidText::TooLong { max_characters });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(text: &str) -> Result<UserId, InvalidText> {
        text.to_owned().try_into()
    }

    #[test]
    fn lengths_are_counted_in_characters_not_bytes() {
        assert!(user(&"é".repeat(64)).is_ok());
        assert_eq!(user(&"é".repeat(65)), Err(InvalidText::TooLong { max_characters: 64 }));
        assert!(Content::try_from("𝄞".repeat(4000)).is_ok());
        assert!(Content::try_from("x".repeat(4001)).is_err());
        assert_eq!(user(""), Err(InvalidText::Empty));
    }

    #[test]
    fn a_user_id_has_no_control_characters_but_a_content_may_have_lines() {
        assert_eq!(user("a\nb"), Err(InvalidText::ControlCharacter));
        assert_eq!(user("a\u{0}"), Err(InvalidText::ControlCharacter));
        assert!(Content::try_from("two\nlines".to_owned()).is_ok());
    }

    #[test]
    fn a_command_from_the_broker_cannot_bypass_the_rules() {
        assert!(serde_json::from_str::<UserId>("\"\"").is_err());
    }
}
