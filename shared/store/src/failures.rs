//! Commands that failed, recorded before they are answered, so that a redelivery gives the same
//! outcome and an operation can be asked for later. Successes need no record: the message itself
//! remembers the commands that made it.

use std::collections::HashMap;

use contracts::{CommandId, Failure, MessageId};
use futures_util::TryStreamExt;
use mongodb::{
    bson::{Bson, DateTime, doc},
    error::{Error, ErrorKind},
};

use crate::{
    Store, StoreError,
    documents::{FailureDocument, command_uuid, from_bson_uuid, message_uuid},
};

/// MongoDB's code for a value that a unique index already has.
const DUPLICATE_KEY: i32 = 11000;

impl Store {
    /// Records failures. The first record of a command stays: what is returned is what is
    /// recorded, for each of the given commands.
    pub async fn record_failures(
        &self,
        failed: &[(CommandId, MessageId, Failure)],
    ) -> Result<HashMap<CommandId, Failure>, StoreError> {
        if failed.is_empty() {
            return Ok(HashMap::new());
        }
        let now = DateTime::now();
        let documents: Vec<FailureDocument> = failed
            .iter()
            .map(|&(command_id, message_id, failure)| FailureDocument {
                id: command_uuid(command_id),
                message_id: message_uuid(message_id),
                failure,
                recorded_at: now,
            })
            .collect();
        let failures = self.failures.clone();
        let all_new = self
            .run(async move {
                match failures.insert_many(documents).ordered(false).await {
                    Ok(_) => Ok(true),
                    Err(error) if only_duplicates(&error) => Ok(false),
                    Err(error) => Err(error),
                }
            })
            .await?;
        if all_new {
            return Ok(failed.iter().map(|&(command, _, failure)| (command, failure)).collect());
        }
        self.recorded_failures(failed.iter().map(|&(command_id, ..)| command_id)).await
    }

    /// The recorded failures of these commands.
    pub async fn recorded_failures(
        &self,
        commands: impl Iterator<Item = CommandId>,
    ) -> Result<HashMap<CommandId, Failure>, StoreError> {
        let ids: Vec<Bson> = commands.map(|id| Bson::from(command_uuid(id))).collect();
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let failures = self.failures.clone();
        let found: Vec<FailureDocument> =
            self.run(async move {
                failures.find(doc! { "_id": { "$in": ids } }).await?.try_collect().await
            })
            .await?;
        let by_command = found
            .into_iter()
            .map(|document| (CommandId::from(from_bson_uuid(document.id)), document.failure));
        Ok(by_command.collect())
    }
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
