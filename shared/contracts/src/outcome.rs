//! Outcomes of commands. A worker publishes them to the gateway that waits, and records those that
//! the message itself does not remember.

use serde::{Deserialize, Serialize};

use crate::{ClusterTime, CommandId, Version, VersionedMessage};

/// Outcome of one command, on its way to the gateway. The body of a delivery is a JSON array of replies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The command.
    pub command_id: CommandId,
    /// Its outcome.
    #[serde(rename = "result")]
    pub outcome: Outcome,
    /// Time at which the worker had applied the commands of the delivery, which reads after the replies must see. The
    /// first reply of a delivery has it for all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_time: Option<ClusterTime>,
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
    pub const KINDS: [&'static str; 12] = [
        "created",
        "replayed",
        "edited",
        "edited_then_deleted",
        "superseded",
        "deleted",
        "not_found",
        "not_the_sender",
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
            Self::Failed(Failure::NotTheSender) => "not_the_sender",
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
    /// The command's actor is the recipient of the message, and only the sender may change it.
    NotTheSender,
    /// The message has another version than `If-Match` requires.
    VersionMismatch,
    /// The idempotency key was used before, with another body.
    KeyReused,
    /// The message that was created with this idempotency key has been deleted.
    DeletedSince,
    /// The command could not be applied and was dead-lettered to `messages.dead`.
    DeadLettered,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Other releases read what this one writes, and the other way round.
    #[test]
    fn a_reply_is_written_as_ever_and_may_have_a_time() {
        let json = r#"{"command_id":"019aa000-0000-7000-8000-000000000001","result":"created"}"#;
        let mut reply: Reply = serde_json::from_str(json).unwrap();
        assert_eq!(reply.cluster_time, None);
        assert_eq!(serde_json::to_string(&reply).unwrap(), json);
        reply.cluster_time = Some(ClusterTime::new(1, 2));
        let written = serde_json::to_string(&reply).unwrap();
        assert_eq!(written, json.replace('}', r#","cluster_time":4294967298}"#));
        assert_eq!(serde_json::from_str::<Reply>(&written).unwrap(), reply);
        // Release 0.1 ignores fields that it does not know; so must this one.
        let later = json.replace('}', r#","unknown":{}}"#);
        assert!(serde_json::from_str::<Reply>(&later).is_ok());
    }
}
