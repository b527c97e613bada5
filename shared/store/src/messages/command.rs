//! Writes as the store takes them.

use contracts::{
    Actor, CommandId, Content, MessageId, Precondition, SeenMessage, Timestamp, UserId,
};

/// A command that stores a new message.
#[derive(Clone, Debug)]
pub struct CreateCommand {
    /// Id of the command.
    pub command_id: CommandId,
    /// Id of the new message.
    pub message_id: MessageId,
    /// Sender of the message.
    pub from_user_id: UserId,
    /// Recipient of the message.
    pub to_user_id: UserId,
    /// Text of the message.
    pub content: Content,
    /// Time when the gateway accepted it.
    pub publish_timestamp: Timestamp,
}

/// A command that changes a stored message.
#[derive(Clone, Debug)]
pub struct UpdateCommand {
    /// Id of the command.
    pub command_id: CommandId,
    /// Id of the message.
    pub message_id: MessageId,
    /// Actor of the change. A user changes own messages only; `None` and services change all.
    pub actor: Option<Actor>,
    /// Versions that the command applies to.
    pub precondition: Precondition,
    /// Change of the message.
    pub update: Update,
}

/// A change of a stored message.
#[derive(Clone, Debug)]
pub enum Update {
    /// Replaces the content.
    Edit {
        /// The new content.
        content: Content,
        /// Time of the edit. With `If-Match` a later one may be stored.
        edit_timestamp: Timestamp,
        /// The message that was seen when the command was made, if one was. The edit timestamp is later than all of
        /// that message.
        seen: Option<SeenMessage>,
    },
    /// Replaces the message by a tombstone.
    Delete,
}
