//! The collection `operations`: outcomes that a message itself does not remember. An outcome is recorded
//! before the reply, so that a redelivery of its command has the same outcome and its operation can be
//! read later.

pub(crate) mod state;

use std::{collections::HashMap, time::Duration};

use contracts::{CommandId, Failure, MessageId, Outcome};
use mongodb::bson::{self, DateTime, RawDocument, doc};
use serde::{Deserialize, Serialize};

use crate::{
    Store, StoreError,
    convert::{bson_uuid, bson_uuids, raw_uuid},
    error::{DUPLICATE_KEY, insert_failures},
};

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
struct OperationDocument {
    #[serde(rename = "_id")]
    id: bson::Uuid,
    message_id: bson::Uuid,
    #[serde(rename = "ending")]
    outcome: RecordedOutcome,
    recorded_at: DateTime,
}

impl Store {
    /// Records outcomes. The first record of a command stands: the returned outcomes are the recorded
    /// ones, for each of these commands.
    pub async fn record_outcomes(
        &self,
        outcomes: &[(CommandId, MessageId, RecordedOutcome)],
    ) -> Result<HashMap<CommandId, RecordedOutcome>, StoreError> {
        if outcomes.is_empty() {
            return Ok(HashMap::new());
        }
        let now = DateTime::now();
        let documents: Vec<OperationDocument> = outcomes
            .iter()
            .map(|&(command_id, message_id, outcome)| OperationDocument {
                id: bson_uuid(command_id),
                message_id: bson_uuid(message_id),
                outcome,
                recorded_at: now,
            })
            .collect();
        let operations = self.operations.clone_with_type::<OperationDocument>();
        let session = self.session();
        let insert = async move {
            let mut session = session.await?;
            let inserting = operations.insert_many(documents).ordered(false);
            let inserted = inserting.session(&mut *session).await;
            insert_failures(inserted, |code| code == DUPLICATE_KEY)
        };
        let all_new = self.run(insert).await?.is_empty();
        if all_new {
            return Ok(outcomes.iter().map(|&(command, _, outcome)| (command, outcome)).collect());
        }
        self.recorded_outcomes(outcomes.iter().map(|&(command_id, ..)| command_id)).await
    }

    /// Returns the recorded outcomes of these commands.
    pub async fn recorded_outcomes(
        &self,
        commands: impl IntoIterator<Item = CommandId>,
    ) -> Result<HashMap<CommandId, RecordedOutcome>, StoreError> {
        let ids = bson_uuids(commands);
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let find = self.find_all(&self.operations, move |operations| {
            operations.find(doc! { "_id": { "$in": &ids[..] } })
        });
        let found = find.await?;
        found.iter().map(|document| read(document)).collect()
    }

    /// Deletes the records that these commands were dead-lettered, and their delivery attempts, so
    /// that a replay of them is tried.
    pub async fn forget_dead_lettered(&self, commands: &[CommandId]) -> Result<(), StoreError> {
        let filter = doc! {
            "_id": { "$in": bson_uuids(commands.iter().copied()) },
            "ending": { "failed": "dead_lettered" },
        };
        let operations = self.operations.clone();
        self.run(async move { operations.delete_many(filter).await }).await?;
        self.clear_delivery_attempts(commands).await
    }
}

pub(crate) fn read(document: &RawDocument) -> Result<(CommandId, RecordedOutcome), StoreError> {
    let command = CommandId::from(raw_uuid(document)?);
    let outcome = match bson::deserialize_from_slice::<OperationDocument>(document.as_bytes()) {
        Ok(document) => document.outcome,
        Err(error) => {
            tracing::warn!(
                command.id = %command, %error,
                "cannot read a recorded outcome; the command is not applied again"
            );
            RecordedOutcome::Unknown
        }
    };
    Ok((command, outcome))
}
