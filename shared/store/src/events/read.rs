//! Reads of the log of changes. They see only what a majority has.

use contracts::{EventPosition, LogEntry, UserId};
use futures_util::TryStreamExt;
use mongodb::bson::{Document, RawDocument, RawDocumentBuf, doc};
use uuid::Uuid;

use super::{EntryOfUser, entry_of_user, from_document, number, user_key};
use crate::{
    Store, StoreError,
    convert::{to_uuid, unreadable},
};

/// Maximum number of entries whose changes are counted, so that counting takes MongoDB no longer than some pages.
const MAX_COUNTED_ENTRIES: i64 = 1_024;

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
        Ok(Some(EventPosition::behind(epoch, seq, append_of(&newest)?)))
    }

    /// Returns the oldest entry; `None` if the log is empty.
    pub async fn oldest_log_entry(&self) -> Result<Option<LogEntry>, StoreError> {
        Ok(self.log_entries(doc! {}, 1, 1).await?.pop())
    }

    /// Returns entries in the order of the log, from this number on.
    pub async fn log_from(&self, seq: u64, limit: u16) -> Result<Vec<LogEntry>, StoreError> {
        self.log_entries(doc! { "_id": { "$gte": number(seq)? } }, 1, limit).await
    }

    /// Returns entries in the order of the log, the newest of those before this number.
    pub async fn log_before(&self, seq: u64, limit: u16) -> Result<Vec<LogEntry>, StoreError> {
        let mut entries =
            self.log_entries(doc! { "_id": { "$lt": number(seq)? } }, -1, limit).await?;
        entries.reverse();
        Ok(entries)
    }

    /// Returns the append that wrote the entry with this number, if it is in the log.
    pub async fn append_of_log_entry(&self, seq: u64) -> Result<Option<Uuid>, StoreError> {
        let filter = doc! { "_id": number(seq)? };
        let find = self.find_all(&self.events, move |events| {
            events.find(filter.clone()).projection(doc! { "append": 1 })
        });
        let found = find.await?.pop();
        found.map(|document| append_of(&document)).transpose()
    }

    /// Returns the entries that concern a user, from this number on, each with the changes of the user's messages only, or
    /// of those with another user.
    pub async fn entries_of(
        &self,
        user: &UserId,
        with: Option<&UserId>,
        seq: u64,
        max_entries: u16,
    ) -> Result<Vec<EntryOfUser>, StoreError> {
        let pipeline = [
            doc! { "$match": { "users": user_key(user), "_id": { "$gte": number(seq)? } } },
            doc! { "$sort": { "_id": 1 } },
            doc! { "$limit": i64::from(max_entries) },
            doc! { "$project": { "append": 1, "changes": changes_of(user, with) } },
        ];
        let entries = self.aggregate_log(pipeline.to_vec()).await?;
        entries.iter().map(|document| entry_of_user(document)).collect()
    }

    /// Returns true if certainly more than `max` changes of a user's messages, or of those with another user, are in
    /// entries from this number on.
    pub async fn has_more_changes_of(
        &self,
        user: &UserId,
        with: Option<&UserId>,
        seq: u64,
        max: u32,
    ) -> Result<bool, StoreError> {
        let entries = doc! { "users": user_key(user), "_id": { "$gte": number(seq)? } };
        if with.is_none() {
            // Each has a change at least. The index alone tells, without their changes being looked at.
            let count = [
                doc! { "$match": entries.clone() },
                doc! { "$limit": i64::from(max) + 1 },
                doc! { "$count": "count" },
            ];
            if self.counted(count.to_vec()).await? > max {
                return Ok(true);
            }
        }
        let count = [
            doc! { "$match": entries },
            doc! { "$sort": { "_id": 1 } },
            doc! { "$limit": MAX_COUNTED_ENTRIES },
            doc! { "$project": { "changes": { "$size": changes_of(user, with) } } },
            doc! { "$group": { "_id": null, "count": { "$sum": "$changes" } } },
        ];
        Ok(self.counted(count.to_vec()).await? > max)
    }

    async fn counted(&self, pipeline: Vec<Document>) -> Result<u32, StoreError> {
        let counted = self.aggregate_log(pipeline).await?;
        // Nothing to count gives no document.
        let Some(counted) = counted.first() else { return Ok(0) };
        u32::try_from(counted.get_i32("count").map_err(unreadable)?).map_err(unreadable)
    }

    async fn aggregate_log(
        &self,
        pipeline: Vec<Document>,
    ) -> Result<Vec<RawDocumentBuf>, StoreError> {
        let (events, session) = (self.events.clone(), self.session());
        // One that nobody waits for any more ends on the server, too.
        let limit = self.operation_timeout;
        let aggregate = async move {
            let mut session = session.await?;
            let found = events.aggregate(pipeline).max_time(limit).session(&mut *session);
            let mut found = found.with_type::<RawDocumentBuf>().await?;
            found.stream(&mut session).try_collect().await
        };
        self.run(aggregate).await
    }

    /// Returns the number of the oldest entry; `None` if the log is empty.
    pub async fn oldest_log_number(&self) -> Result<Option<u64>, StoreError> {
        let find = self.find_all(&self.events, |events| {
            events.find(doc! {}).sort(doc! { "_id": 1 }).limit(1).projection(doc! { "_id": 1 })
        });
        let oldest = find.await?.pop();
        let seq = |document: RawDocumentBuf| {
            document.get_i64("_id").map_err(unreadable)?.try_into().map_err(unreadable)
        };
        oldest.map(seq).transpose()
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

/// Returns the expression of an entry's changes of a user's messages, each with its index.
fn changes_of(user: &UserId, with: Option<&UserId>) -> Document {
    // As a literal, since a name may begin with a dollar sign.
    let is = |field: &str, user: &UserId| {
        doc! { "$eq": [format!("$$this.change.{field}"), { "$literal": user.as_str() }] }
    };
    let wanted = match with {
        None => doc! { "$or": [is("f", user), is("t", user)] },
        Some(with) => doc! {
            "$or": [
                { "$and": [is("f", user), is("t", with)] },
                { "$and": [is("f", with), is("t", user)] },
            ],
        },
    };
    let indexed = doc! {
        "$map": {
            "input": { "$range": [0, { "$size": "$changes" }] },
            "as": "index",
            "in": { "index": "$$index", "change": { "$arrayElemAt": ["$changes", "$$index"] } },
        },
    };
    doc! { "$filter": { "input": indexed, "cond": wanted } }
}

fn append_of(document: &RawDocument) -> Result<Uuid, StoreError> {
    let append = document.get("append").map_err(unreadable)?.and_then(to_uuid);
    append.ok_or_else(|| unreadable("the append of a log entry is no UUID"))
}
