//! What gateways publish and storage workers apply. A delivery's body is a JSON array of commands.

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::{CommandId, Content, MessageId, Timestamp, UserId, Version};

/// The version of the command format that this code writes and reads.
pub const FORMAT: u32 = 1;

/// The most commands in one delivery.
pub const MAX_BATCH_COMMANDS: usize = 256;

/// The most bytes in one delivery's body.
pub const MAX_BATCH_BYTES: usize = 1024 * 1024;

/// A create older than this is not applied any more: the tombstone of the message it may have made
/// lives only a day longer, and nothing else would stop it from coming back.
pub const MAX_CREATE_AGE_DAYS: u64 = 6;

/// One change to one message. It takes effect once however often it is delivered, because its id
/// stays the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    #[serde(deserialize_with = "known_format")]
    format: u32,
    /// The same in every delivery of this command.
    pub id: CommandId,
    /// The message to create or change.
    pub message_id: MessageId,
    /// When the gateway accepted the request.
    pub issued_at: Timestamp,
    /// What to do with the message.
    pub action: Action,
}

/// What a command does to its message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Store a new message, published at the command's `issued_at`.
    Create {
        /// Who wrote it.
        from_user_id: UserId,
        /// Whom it is for.
        to_user_id: UserId,
        /// What it says.
        content: Content,
    },
    /// Replace the content.
    Edit {
        /// The new content.
        content: Content,
        /// When, as the gateway saw it: later than every timestamp it read in the message.
        edit_timestamp: Timestamp,
        /// Apply only to this version (`If-Match`).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        if_match: Option<Version>,
    },
    /// Replace the message by a tombstone.
    Delete {
        /// Apply only to this version (`If-Match`).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        if_match: Option<Version>,
    },
}

impl Command {
    /// A new command, issued now.
    #[must_use]
    pub fn new(message_id: MessageId, issued_at: Timestamp, action: Action) -> Self {
        let id = CommandId::generate();
        Self { format: FORMAT, id, message_id, issued_at, action }
    }

    /// Whether this is a create that came too late to be applied (see [`MAX_CREATE_AGE_DAYS`]).
    #[must_use]
    pub fn is_expired_create(&self, now: Timestamp) -> bool {
        let max_age_secs = MAX_CREATE_AGE_DAYS * 24 * 60 * 60;
        matches!(self.action, Action::Create { .. })
            && self.issued_at.elapsed_until(now).as_secs() > max_age_secs
    }
}

fn known_format<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let format = u32::deserialize(deserializer)?;
    if format == FORMAT {
        Ok(format)
    } else {
        Err(de::Error::custom(format_args!("unknown command format {format}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create() -> Command {
        let action = Action::Create {
            from_user_id: "alice".to_owned().try_into().unwrap(),
            to_user_id: "bob".to_owned().try_into().unwrap(),
            content: "hello".to_owned().try_into().unwrap(),
        };
        Command::new(MessageId::generate(), Timestamp::now(), action)
    }

    #[test]
    fn a_command_survives_the_wire() {
        let command = create();
        let json = serde_json::to_string(&command).unwrap();
        assert!(json.starts_with("{\"format\":1,"));
        assert_eq!(serde_json::from_str::<Command>(&json).unwrap(), command);
    }

    #[test]
    fn another_format_is_named_in_the_error() {
        let json =
            serde_json::to_string(&create()).unwrap().replace("\"format\":1", "\"format\":2");
        let error = serde_json::from_str::<Command>(&json).unwrap_err();
        assert!(error.to_string().contains("unknown command format 2"), "{error}");
    }

    #[test]
    fn only_a_create_expires() {
        let mut command = create();
        let now = Timestamp::now();
        assert!(!command.is_expired_create(now));
        command.issued_at =
            Timestamp::from_unix_millis(now.unix_millis() - 7 * 86_400_000).unwrap();
        assert!(command.is_expired_create(now));
        command.action = Action::Delete { if_match: None };
        assert!(!command.is_expired_create(now));
    }
}
