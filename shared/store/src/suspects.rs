//! Commands that may have killed a worker: how often each was tried, counted before each try, so
//! that it can be told from one that only was in hand when a worker died.

use contracts::CommandId;
use mongodb::bson::{Bson, DateTime, doc};

use crate::{Store, StoreError, documents::command_uuid};

impl Store {
    /// Counts a try that is about to begin, and says which one it is, from 1.
    ///
    /// The count is read from a majority and then set, not incremented: a try that never began,
    /// because its count could not be written to a majority, is not counted twice.
    pub async fn count_attempt(&self, command: CommandId) -> Result<u32, StoreError> {
        let suspects = self.suspects.clone();
        let id = command_uuid(command);
        self.run(async move {
            let known = suspects.find_one(doc! { "_id": id }).await?;
            let attempt = known.map_or(0, |suspect| suspect.attempts) + 1;
            let update = doc! { "$set": { "attempts": attempt, "tried_at": DateTime::now() } };
            suspects.update_one(doc! { "_id": id }, update).upsert(true).await?;
            Ok(u32::try_from(attempt).unwrap_or(u32::MAX))
        })
        .await
    }

    /// Forgets suspects that were tried and did no harm.
    pub async fn clear_suspects(&self, commands: &[CommandId]) -> Result<(), StoreError> {
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
