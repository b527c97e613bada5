//! How commands ended that left no trace in their message: those that failed, and those that met
//! what they would have made. They are recorded before they are answered, so that a redelivery
//! has the same outcome and an operation can be asked for later. Every other success needs no
//! record: the message itself remembers the commands that made it.

use std::collections::HashMap;

use contracts::{CommandId, Failure, MessageId};
use futures_util::TryStreamExt;
use mongodb::{
    bson::{self, Bson, DateTime, RawDocument, RawDocumentBuf, doc},
    error::{Error, ErrorKind},
};
use serde::{Deserialize, Serialize};

use crate::{
    Store, StoreError,
    client::DUPLICATE_KEY,
    documents::{EndingDocument, command_uuid, message_uuid, raw_uuid},
};

/// How a command ended that changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordedOutcome {
    /// It failed.
    Failed(Failure),
    /// The message it would have made was there already.
    Replayed,
    /// A newer edit was there already.
    Superseded,
    /// It ended; how is recorded in words that this version does not know.
    #[serde(skip)]
    Unknown,
}

impl Store {
    /// Records endings. The first record of a command stays: what is returned is what is
    /// recorded, for each of the given commands.
    pub async fn record_outcomes(
        &self,
        ended: &[(CommandId, MessageId, RecordedOutcome)],
    ) -> Result<HashMap<CommandId, RecordedOutcome>, StoreError> {
        if ended.is_empty() {
            return Ok(HashMap::new());
        }
        let now = DateTime::now();
        let documents: Vec<EndingDocument> = ended
            .iter()
            .map(|&(command_id, message_id, ending)| EndingDocument {
                id: command_uuid(command_id),
                message_id: message_uuid(message_id),
                ending,
                recorded_at: now,
            })
            .collect();
        let endings = self.endings.clone();
        let all_new = self
            .run(async move {
                match endings.insert_many(documents).ordered(false).await {
                    Ok(_) => Ok(true),
                    Err(error) if only_duplicates(&error) => Ok(false),
                    Err(error) => Err(error),
                }
            })
            .await?;
        if all_new {
            return Ok(ended.iter().map(|&(command, _, ending)| (command, ending)).collect());
        }
        self.recorded_outcomes(ended.iter().map(|&(command_id, ..)| command_id)).await
    }

    /// Forgets that these commands were dead-lettered, and whom they killed, so that a replay of
    /// them is tried.
    pub async fn forget_dead_lettered(&self, commands: &[CommandId]) -> Result<(), StoreError> {
        let ids: Vec<Bson> = commands.iter().map(|id| Bson::from(command_uuid(*id))).collect();
        let filter = doc! {
            "_id": { "$in": ids },
            "ending": { "failed": "dead_lettered" },
        };
        let endings = self.endings.clone();
        self.run(async move { endings.delete_many(filter).await }).await?;
        self.clear_delivery_attempts(commands).await
    }

    /// The recorded endings of these commands.
    pub async fn recorded_outcomes(
        &self,
        commands: impl Iterator<Item = CommandId>,
    ) -> Result<HashMap<CommandId, RecordedOutcome>, StoreError> {
        let ids: Vec<Bson> = commands.map(|id| Bson::from(command_uuid(id))).collect();
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let endings = self.endings.clone_with_type::<RawDocumentBuf>();
        let found: Vec<RawDocumentBuf> =
            self.run(async move {
                endings.find(doc! { "_id": { "$in": ids } }).await?.try_collect().await
            })
            .await?;
        found.iter().map(|document| recorded_ending(document)).collect()
    }
}

/// A record that another version wrote, or that is damaged, says at least that the command ended.
fn recorded_ending(document: &RawDocument) -> Result<(CommandId, RecordedOutcome), StoreError> {
    let command = CommandId::from(raw_uuid(document)?);
    let ending = match bson::deserialize_from_slice::<EndingDocument>(document.as_bytes()) {
        Ok(readable) => readable.ending,
        Err(error) => {
            tracing::warn!(command.id = %command, %error, "how a command ended cannot be read");
            RecordedOutcome::Unknown
        }
    };
    Ok((command, ending))
}

fn only_duplicates(error: &Error) -> bool {
    match &*error.kind {
        ErrorKind::InsertMany(failure) => {
            failure.write_concern_error.is_none()
                && failure
                    .write_errors
                    .iter()
                    .flatten()
                    .all(|write_error| write_error.code == DUPLICATE_KEY)
        }
        _ => false,
    }
}
