//! Reads of the log of changes. They see only what a majority has.

use contracts::{EventPosition, LogEntry, UserId};
use mongodb::bson::{Document, doc};

use super::{from_document, number};
use crate::{
    Store, StoreError,
    convert::{to_uuid, unreadable},
};

impl Store {
    /// Returns the entry with this number, if it is in the log.
    pub async fn log_entry(&self, seq: u64) -> Result<Option<LogEntry>, StoreError> {
        let filter = doc! { "_id": number(seq)? };
        Ok(self.log_entries(filter, 1, 1).await?.pop())
    }

    /// Returns the newest entry; `None` if the log is empty.
    pub async fn newest_log_entry(&self) -> Result<Option<LogEntry>, StoreError> {
        Ok(self.log_entries(doc! {}, -1, 1).await?.pop())
    }

    /// Returns the position behind the newest entry; `None` before a worker has made the log.
    pub async fn log_end(&self) -> Result<Option<EventPosition>, StoreError> {
        let Some(epoch) = self.log_epoch().await? else { return Ok(None) };
        let find = self.find_all(&self.events, |events| {
            let newest = events.find(doc! {}).sort(doc! { "_id": -1 }).limit(1);
            newest.projection(doc! { "append": 1 })
        });
        let Some(newest) = find.await?.pop() else {
            return Ok(Some(EventPosition::start(epoch)));
        };
        let seq = newest.get_i64("_id").map_err(unreadable)?.try_into().map_err(unreadable)?;
        let append = newest.get("append").map_err(unreadable)?.and_then(to_uuid);
        let append = append.ok_or_else(|| unreadable("the append of a log entry is no UUID"))?;
        Ok(Some(EventPosition::behind(epoch, seq, append)))
    }

    /// Returns the oldest entry; `None` if the log is empty.
    pub async fn oldest_log_entry(&self) -> Result<Option<LogEntry>, StoreError> {
        Ok(self.log_entries(doc! {}, 1, 1).await?.pop())
    }

    /// Returns entries in the order of the log, from this number on.
    pub async fn log_from(&self, seq: u64, limit: u16) -> Result<Vec<LogEntry>, StoreError> {
        self.log_entries(doc! { "_id": { "$gte": number(seq)? } }, 1, limit).await
    }

    /// Returns those of them that concern a user. Their other changes are in them, too.
    pub async fn log_of_user_from(
        &self,
        user: &UserId,
        seq: u64,
        limit: u16,
    ) -> Result<Vec<LogEntry>, StoreError> {
        let filter = doc! { "users": user.as_str(), "_id": { "$gte": number(seq)? } };
        self.log_entries(filter, 1, limit).await
    }

    async fn log_entries(
        &self,
        filter: Document,
        direction: i32,
        limit: u16,
    ) -> Result<Vec<LogEntry>, StoreError> {
        let find = self.find_all(&self.events, move |events| {
            events.find(filter.clone()).sort(doc! { "_id": direction }).limit(limit.into())
        });
        find.await?.iter().map(|document| from_document(document)).collect()
    }
}
