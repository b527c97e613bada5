//! Commands that may have killed a worker: how often each was tried, counted before each try, so
//! that it can be told from one that only was in hand when a worker died.

use contracts::CommandId;
use mongodb::{
    bson::{self, Bson, Document, doc},
    options::ReturnDocument,
};

use crate::{Store, StoreError, documents::command_uuid};

/// One try of a command, so that it is counted once, however often the counting is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptId(bson::Uuid);

impl AttemptId {
    /// A try that is about to begin.
    #[must_use]
    pub fn generate() -> Self {
        Self(bson::Uuid::new())
    }
}

impl Store {
    /// Counts a try that is about to begin, and says which one it is, from 1. It is 0, and nothing
    /// is counted, where the command has survived a try: what kills a worker kills it each time.
    ///
    /// An answer can get lost when the count is written, and asking again must not count twice: an
    /// outage would make killers of all that is tried in it.
    pub async fn record_attempt(
        &self,
        command: CommandId,
        attempt: AttemptId,
    ) -> Result<u32, StoreError> {
        // Whatever stands there, it must not be in the way of the commands.
        let tries = doc! { "$cond": [{ "$isArray": "$tries" }, "$tries", []] };
        let with_this = doc! { "$setUnion": [tries.clone(), [attempt.0]] };
        let update = vec![doc! { "$set": {
            "tries": { "$cond": [{ "$eq": ["$survived", true] }, tries, with_this] },
            "tried_at": "$$NOW",
        } }];
        let suspects = self.suspects.clone();
        let filter = doc! { "_id": command_uuid(command) };
        let counted = self
            .run(async move {
                suspects
                    .find_one_and_update(filter, update)
                    .upsert(true)
                    .return_document(ReturnDocument::After)
                    .await
            })
            .await?;
        Ok(counted.as_ref().map_or(0, tries_of))
    }

    /// Counts a try no longer, which has not killed the worker at once.
    pub async fn withdraw_attempt(
        &self,
        command: CommandId,
        attempt: AttemptId,
    ) -> Result<(), StoreError> {
        let suspects = self.suspects.clone();
        let filter = doc! { "_id": command_uuid(command) };
        let update = doc! { "$pull": { "tries": attempt.0 } };
        self.run(async move { suspects.update_one(filter, update).await }).await.map(drop)
    }

    /// Notes that a command was tried and did no harm. It is not suspected any more, also where its
    /// delivery comes again because a later one of its commands did.
    pub async fn record_success(&self, command: CommandId) -> Result<(), StoreError> {
        let suspects = self.suspects.clone();
        let filter = doc! { "_id": command_uuid(command) };
        let update = doc! { "$set": { "survived": true } };
        self.run(async move { suspects.update_one(filter, update).await }).await.map(drop)
    }

    /// Forgets suspects whose delivery has come to its end.
    pub async fn clear_delivery_attempts(&self, commands: &[CommandId]) -> Result<(), StoreError> {
        if commands.is_empty() {
            return Ok(());
        }
        let ids: Vec<Bson> = commands.iter().map(|id| Bson::from(command_uuid(*id))).collect();
        let suspects = self.suspects.clone();
        self.run(async move { suspects.delete_many(doc! { "_id": { "$in": ids } }).await })
            .await
            .map(drop)
    }
}

fn tries_of(suspect: &Document) -> u32 {
    if suspect.get_bool("survived").unwrap_or_default() {
        return 0;
    }
    let tries = suspect.get_array("tries").map(Vec::len).unwrap_or_default();
    u32::try_from(tries).unwrap_or(u32::MAX)
}
