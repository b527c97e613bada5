//! Outcomes of commands. A worker publishes them to the gateway that waits, and records those that
//! the message itself does not remember.

use serde::{Deserialize, Serialize};

use crate::{CommandId, Version, VersionedMessage};

/// Outcome of one command, on its way to the gateway. The body of a delivery is a JSON array of replies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The command.
    pub command_id: CommandId,
    /// Its outcome.
    #[serde(rename = "result")]
    pub outcome: Outcome,
}

/// Ways in which a command can end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The message is stored as in the command, with version 1.
    Created,
    /// An earlier command with the same idempotency key created the message. Holds its present state.
    Replayed(VersionedMessage),
    /// The edit is stored. Holds the message as edited, without any later change.
    Edited(VersionedMessage),
    /// The edit was stored, and the message was deleted afterwards.
    EditedThenDeleted {
        /// Version that the edit produced.
        version: Version,
    },
    /// A newer edit was stored first, so nothing was written. Holds the stored message.
    Superseded(VersionedMessage),
    /// The message is deleted.
    Deleted,
    /// Nothing was changed.
    Failed(Failure),
}

impl Outcome {
    /// Every value of [`Outcome::kind`].
    pub const KINDS: [&'static str; 11] = [
        "created",
        "replayed",
        "edited",
        "edited_then_deleted",
        "superseded",
        "deleted",
        "not_found",
        "version_mismatch",
        "key_reused",
        "deleted_since",
        "dead_lettered",
    ];

    /// Returns the kind of outcome, for counting.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Replayed(_) => "replayed",
            Self::Edited(_) => "edited",
            Self::EditedThenDeleted { .. } => "edited_then_deleted",
            Self::Superseded(_) => "superseded",
            Self::Deleted => "deleted",
            Self::Failed(Failure::NotFound) => "not_found",
            Self::Failed(Failure::VersionMismatch) => "version_mismatch",
            Self::Failed(Failure::KeyReused) => "key_reused",
            Self::Failed(Failure::DeletedSince) => "deleted_since",
            Self::Failed(Failure::DeadLettered) => "dead_lettered",
        }
    }
}

/// Reasons for which a command never changes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// The message does not exist; it may have been deleted.
    NotFound,
    /// The message has another version than `If-Match` requires.
    VersionMismatch,
    /// The idempotency key was used before, with another body.
    KeyReused,
    /// The message that was created with this idempotency key has been deleted.
    DeletedSince,
    /// The command could not be applied and was dead-lettered to `messages.dead`.
    DeadLettered,
}
