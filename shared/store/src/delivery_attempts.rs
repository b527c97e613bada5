//! Delivery attempts of commands that may have killed a worker. Each is recorded before it begins, so
//! that a command that kills its worker differs from one that was only in hand when a worker died.

use contracts::CommandId;
use mongodb::{
    bson::{self, Document, doc},
    options::ReturnDocument,
};

use crate::{
    Store, StoreError,
    convert::{command_uuid, command_uuids},
};

/// Id of one attempt. It makes recording idempotent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptId(bson::Uuid);

impl AttemptId {
    /// Generates an id for an attempt that is about to begin.
    #[must_use]
    pub fn generate() -> Self {
        Self(bson::Uuid::new())
    }
}

impl Store {
    /// Records an attempt that is about to begin, and returns its number, from 1. Returns 0, and
    /// records nothing, for a command that has survived an attempt: a command that kills its worker
    /// does so every time.
    ///
    /// The server's answer can get lost after the write, so recording may be repeated and still
    /// counts once. Otherwise an outage would make every command that is tried in it look deadly.
    pub async fn record_attempt(
        &self,
        command: CommandId,
        attempt: AttemptId,
    ) -> Result<u32, StoreError> {
        // A damaged document must not block its command.
        let tries = doc! { "$cond": [{ "$isArray": "$tries" }, "$tries", []] };
        let with_this = doc! { "$setUnion": [tries.clone(), [attempt.0]] };
        let update = vec![doc! { "$set": {
            "tries": { "$cond": [{ "$eq": ["$survived", true] }, tries, with_this] },
            "tried_at": "$$NOW",
        } }];
        let attempts = self.delivery_attempts.clone();
        let filter = doc! { "_id": command_uuid(command) };
        let recorded = self
            .run(async move {
                attempts
                    .find_one_and_update(filter, update)
                    .upsert(true)
                    .return_document(ReturnDocument::After)
                    .await
            })
            .await?;
        Ok(recorded.as_ref().map_or(0, number_of_attempts))
    }

    /// Withdraws an attempt that has not killed the worker at once.
    pub async fn withdraw_attempt(
        &self,
        command: CommandId,
        attempt: AttemptId,
    ) -> Result<(), StoreError> {
        self.update_attempts(command, doc! { "$pull": { "tries": attempt.0 } }).await
    }

    /// Records that a command was tried without harm. Its later attempts do not count, even if its
    /// delivery comes again because of another command in it.
    pub async fn record_success(&self, command: CommandId) -> Result<(), StoreError> {
        self.update_attempts(command, doc! { "$set": { "survived": true } }).await
    }

    /// Deletes the attempts of commands whose delivery is finished.
    pub async fn clear_delivery_attempts(&self, commands: &[CommandId]) -> Result<(), StoreError> {
        if commands.is_empty() {
            return Ok(());
        }
        let filter = doc! { "_id": { "$in": command_uuids(commands.iter().copied()) } };
        let attempts = self.delivery_attempts.clone();
        self.run(async move { attempts.delete_many(filter).await }).await.map(drop)
    }

    async fn update_attempts(
        &self,
        command: CommandId,
        update: Document,
    ) -> Result<(), StoreError> {
        let filter = doc! { "_id": command_uuid(command) };
        let attempts = self.delivery_attempts.clone();
        self.run(async move { attempts.update_one(filter, update).await }).await.map(drop)
    }
}

fn number_of_attempts(recorded: &Document) -> u32 {
    if recorded.get_bool("survived").unwrap_or_default() {
        return 0;
    }
    let tries = recorded.get_array("tries").map(Vec::len).unwrap_or_default();
    u32::try_from(tries).unwrap_or(u32::MAX)
}
