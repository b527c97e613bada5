//! The outcomes that a message itself does not remember.

use std::time::Duration;

use contracts::{Failure, Outcome};
use mongodb::bson::{self, DateTime};
use serde::{Deserialize, Serialize};

/// Lifetime of a recorded outcome.
pub(crate) const LIFETIME: Duration = Duration::from_hours(24);

/// An outcome that left no trace in the message. Every other success needs no record: the message
/// remembers the commands that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordedOutcome {
    /// The command failed.
    Failed(Failure),
    /// The message that the command would have created already existed.
    Replayed,
    /// A newer edit was already stored.
    Superseded,
    /// The command ended, but the record cannot be read: another version wrote it, or it is damaged.
    #[serde(skip)]
    Unknown,
}

impl RecordedOutcome {
    /// Returns the record of an outcome; `None` if the message remembers the command.
    #[must_use]
    pub fn of(outcome: &Outcome) -> Option<Self> {
        match outcome {
            Outcome::Failed(failure) => Some(Self::Failed(*failure)),
            Outcome::Replayed(_) => Some(Self::Replayed),
            Outcome::Superseded(_) => Some(Self::Superseded),
            Outcome::Created
            | Outcome::Edited(_)
            | Outcome::EditedThenDeleted { .. }
            | Outcome::Deleted => None,
        }
    }

    /// Returns the outcome to reply with; `None` if the record does not hold all of it.
    #[must_use]
    pub fn outcome(self) -> Option<Outcome> {
        match self {
            Self::Failed(failure) => Some(Outcome::Failed(failure)),
            Self::Replayed | Self::Superseded | Self::Unknown => None,
        }
    }
}

/// A document of the collection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OperationDocument {
    #[serde(rename = "_id")]
    pub(crate) id: bson::Uuid,
    pub(crate) message_id: bson::Uuid,
    #[serde(rename = "ending")]
    pub(crate) outcome: RecordedOutcome,
    pub(crate) recorded_at: DateTime,
}
