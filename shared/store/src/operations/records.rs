//! Recording outcomes. An outcome is recorded before the reply, so that a redelivery of its command has
//! the same outcome and its operation can be read later.

use std::collections::HashMap;

use contracts::{CommandId, MessageId};
use futures_util::TryStreamExt;
use mongodb::{
    bson::{self, DateTime, RawDocument, RawDocumentBuf, doc},
    error::{Error, ErrorKind},
};

use super::recorded_outcome::{OperationDocument, RecordedOutcome};
use crate::{
    Store, StoreError,
    convert::{command_uuid, command_uuids, message_uuid, raw_uuid},
    error::DUPLICATE_KEY,
};

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
                id: command_uuid(command_id),
                message_id: message_uuid(message_id),
                outcome,
                recorded_at: now,
            })
            .collect();
        let operations = self.operations.clone();
        let all_new = self
            .run(async move {
                match operations.insert_many(documents).ordered(false).await {
                    Ok(_) => Ok(true),
                    Err(error) if only_duplicates(&error) => Ok(false),
                    Err(error) => Err(error),
                }
            })
            .await?;
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
        let ids = command_uuids(commands);
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let operations = self.operations.clone_with_type::<RawDocumentBuf>();
        let found: Vec<RawDocumentBuf> = self
            .run(async move {
                operations.find(doc! { "_id": { "$in": ids } }).await?.try_collect().await
            })
            .await?;
        found.iter().map(|document| read(document)).collect()
    }

    /// Deletes the records that these commands were dead-lettered, and their delivery attempts, so
    /// that a replay of them is tried.
    pub async fn forget_dead_lettered(&self, commands: &[CommandId]) -> Result<(), StoreError> {
        let filter = doc! {
            "_id": { "$in": command_uuids(commands.iter().copied()) },
            "ending": { "failed": "dead_lettered" },
        };
        let operations = self.operations.clone();
        self.run(async move { operations.delete_many(filter).await }).await?;
        self.clear_delivery_attempts(commands).await
    }
}

fn read(document: &RawDocument) -> Result<(CommandId, RecordedOutcome), StoreError> {
    let command = CommandId::from(raw_uuid(document)?);
    let outcome = match bson::deserialize_from_slice::<OperationDocument>(document.as_bytes()) {
        Ok(document) => document.outcome,
        Err(error) => {
            tracing::warn!(
                command.id = %command, %error,
                "cannot read a recorded outcome; the command counts as ended"
            );
            RecordedOutcome::Unknown
        }
    };
    Ok((command, outcome))
}

fn only_duplicates(error: &Error) -> bool {
    let ErrorKind::InsertMany(failure) = &*error.kind else { return false };
    let mut write_errors = failure.write_errors.iter().flatten();
    failure.write_concern_error.is_none() && write_errors.all(|error| error.code == DUPLICATE_KEY)
}
