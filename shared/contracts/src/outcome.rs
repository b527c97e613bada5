//! What became of a command: published by the worker to the gateway that waits for it, and, where
//! it failed, recorded in MongoDB.

use serde::{Deserialize, Serialize};

use crate::{CommandId, Version, VersionedMessage};

/// What became of one command. A reply's body is a JSON array of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// Whose outcome this is.
    pub command_id: CommandId,
    /// What became of it.
    #[serde(rename = "result")]
    pub outcome: Outcome,
}

/// The ways a command can end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The message is stored as the command has it, with version 1.
    Created,
    /// An earlier command with the same idempotency key had made the message; here it is as it is now.
    Replayed(VersionedMessage),
    /// The edit is stored; here is the message as it made it, whatever has come after it.
    Edited(VersionedMessage),
    /// The edit was stored, and the message deleted since: only its version is left to tell.
    EditedThenDeleted {
        /// The version that the edit made.
        version: Version,
    },
    /// A newer edit was stored first. Nothing was written; here is the message as stored.
    Superseded(VersionedMessage),
    /// The message is gone.
    Deleted,
    /// Nothing was changed.
    Failed(Failure),
}

impl Outcome {
    /// All kinds, as [`Outcome::kind`] names them.
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

    /// Which kind of end this is, for counting.
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

/// Why a command changed nothing, for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// There is no such message, or no longer.
    NotFound,
    /// The message has another version than `If-Match` asks for.
    VersionMismatch,
    /// The idempotency key was used before, with another body.
    KeyReused,
    /// The message that was made with this idempotency key has been deleted since.
    DeletedSince,
    /// The command could not be applied and was set aside in `messages.dead`.
    DeadLettered,
}
