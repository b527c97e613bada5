//! Trimming the log of changes.

use std::time::Duration;

use contracts::Timestamp;
use mongodb::bson::doc;
use uuid::Uuid;

use super::number;
use crate::{
    Store, StoreError,
    convert::{bson_date, bson_uuid, unreadable},
};

/// Maximum number of entries that are deleted together. Each has up to 512 keys in the index of users, and the operation
/// must end in time.
const MAX_DELETED: u64 = 1_000;

/// Time by which the clock of a worker may be ahead.
const MAX_AHEAD_MS: i64 = 24 * 60 * 60 * 1000;

impl Store {
    /// Deletes an entry that landed in the trimmed part.
    pub(super) async fn remove_log_entry(&self, seq: u64, append: Uuid) -> Result<(), StoreError> {
        let (events, filter) =
            (self.events.clone(), doc! { "_id": number(seq)?, "append": bson_uuid(append) });
        self.run(async move { events.delete_one(filter).await }).await.map(drop)
    }

    /// Deletes entries that are older than `retention`, oldest first, and returns their number; 0 if there are none. It
    /// deletes a prefix of the log, up to the first younger entry, so that a clock that was wrong delays it and makes no
    /// hole. The newest entry stays: from it the next number follows.
    pub async fn trim_log(&self, retention: Duration) -> Result<u64, StoreError> {
        let Some(oldest) = self.oldest_log_entry().await? else { return Ok(0) };
        let Some(newest) = self.newest_log_entry().await? else { return Ok(0) };
        let retention = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
        let cutoff = Timestamp::now().unix_millis().saturating_sub(retention);
        let cutoff = Timestamp::from_unix_millis(cutoff).map_err(unreadable)?;
        // What a clock far ahead has written would keep everything behind it for ever.
        let horizon = Timestamp::now().unix_millis().saturating_add(MAX_AHEAD_MS);
        let horizon = Timestamp::from_unix_millis(horizon).map_err(unreadable)?;
        if (cutoff..=horizon).contains(&oldest.at) || oldest.seq >= newest.seq {
            return Ok(0);
        }
        let end = newest.seq.min(oldest.seq.saturating_add(MAX_DELETED));
        let expired_range = doc! { "$gte": number(oldest.seq)?, "$lt": number(end)? };
        let young = doc! { "_id": expired_range, "at": { "$gte": bson_date(cutoff), "$lte": bson_date(horizon) } };
        let find = self.find_all(&self.events, move |events| {
            events.find(young.clone()).sort(doc! { "_id": 1 }).limit(1)
        });
        let end = match find.await?.first() {
            Some(young) => young.get_i64("_id").map_err(unreadable)?,
            None => number(end)?,
        };
        let events = self.events.clone();
        let trim = async move { events.delete_many(doc! { "_id": { "$lt": end } }).await };
        Ok(self.run(trim).await?.deleted_count)
    }
}
