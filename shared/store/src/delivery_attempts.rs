//! Delivery attempts of commands that may have killed a worker. Each is recorded before it begins, so
//! that a command that kills its worker differs from others that the worker held when it died.

use contracts::CommandId;
use mongodb::{
    bson::{self, Document, RawDocument, doc},
    options::ReturnDocument,
};

use crate::{
    Store, StoreError,
    convert::{bson_uuid, bson_uuids},
};

/// Id of one attempt, which makes recording it idempotent.
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
    /// The server's response can get lost after the write. So recording may be repeated, and counts
    /// once. Otherwise every command that is tried in an outage would seem to kill workers.
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
        let filter = doc! { "_id": bson_uuid(command) };
        let record = async move {
            let record = attempts.find_one_and_update(filter, update).upsert(true);
            record.return_document(ReturnDocument::After).await
        };
        Ok(self.run(record).await?.as_deref().map_or(0, number_of_attempts))
    }

    /// Withdraws an attempt, which then does not count.
    pub async fn withdraw_attempt(
        &self,
        command: CommandId,
        attempt: AttemptId,
    ) -> Result<(), StoreError> {
        self.update_attempts(command, doc! { "$pull": { "tries": attempt.0 } }).await
    }

    /// Records that a command survived an attempt. Its later attempts do not count, even if its
    /// delivery comes again because of another command in it.
    pub async fn record_success(&self, command: CommandId) -> Result<(), StoreError> {
        self.update_attempts(command, doc! { "$set": { "survived": true } }).await
    }

    /// Deletes the attempts of commands whose delivery is finished.
    pub async fn clear_delivery_attempts(&self, commands: &[CommandId]) -> Result<(), StoreError> {
        if commands.is_empty() {
            return Ok(());
        }
        let filter = doc! { "_id": { "$in": bson_uuids(commands.iter().copied()) } };
        let attempts = self.delivery_attempts.clone();
        self.run(async move { attempts.delete_many(filter).await }).await.map(drop)
    }

    async fn update_attempts(
        &self,
        command: CommandId,
        update: Document,
    ) -> Result<(), StoreError> {
        let filter = doc! { "_id": bson_uuid(command) };
        let attempts = self.delivery_attempts.clone();
        self.run(async move { attempts.update_one(filter, update).await }).await.map(drop)
    }
}

pub(crate) fn number_of_attempts(recorded: &RawDocument) -> u32 {
    if recorded.get_bool("survived").unwrap_or_default() {
        return 0;
    }
    let tries = recorded.get_array("tries").map_or(0, |tries| tries.into_iter().count());
    u32::try_from(tries).unwrap_or(u32::MAX)
}
