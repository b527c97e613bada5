//! Reads of the log of changes. They see only what a majority has.

use contracts::{EventPosition, LogEntry, UserId};
use futures_util::TryStreamExt;
use mongodb::bson::{Document, RawDocument, RawDocumentBuf, doc};
use uuid::Uuid;

use super::{LoggedChange, from_document, from_unwound, number};
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

    /// Returns the changes of a user's messages, or only those with another user, of at most `max_entries` entries from
    /// this number on.
    pub async fn logged_changes_of(
        &self,
        user: &UserId,
        with: Option<&UserId>,
        seq: u64,
        max_entries: u16,
    ) -> Result<Vec<LoggedChange>, StoreError> {
        let sort_and_limit =
            [doc! { "$sort": { "_id": 1 } }, doc! { "$limit": i64::from(max_entries) }];
        let changes = self.changes_of(user, with, seq, &sort_and_limit, &[]).await?;
        changes.iter().map(|document| from_unwound(document)).collect()
    }

    /// Returns their number from this number on, or `max` if there are more.
    pub async fn count_logged_changes_of(
        &self,
        user: &UserId,
        with: Option<&UserId>,
        seq: u64,
        max: u32,
    ) -> Result<u32, StoreError> {
        let count = [doc! { "$limit": i64::from(max) }, doc! { "$count": "changes" }];
        let counted = self.changes_of(user, with, seq, &[], &count).await?;
        // Nothing to count gives no document.
        let Some(counted) = counted.first() else { return Ok(0) };
        u32::try_from(counted.get_i32("changes").map_err(unreadable)?).map_err(unreadable)
    }

    /// Runs an aggregation with a document for each change of a user: its entry with this change only, and its index. The
    /// other changes of the entries stay in MongoDB.
    async fn changes_of(
        &self,
        user: &UserId,
        with: Option<&UserId>,
        seq: u64,
        of_entries: &[Document],
        of_changes: &[Document],
    ) -> Result<Vec<RawDocumentBuf>, StoreError> {
        let user = user.as_str();
        let wanted = match with.map(UserId::as_str) {
            None => [doc! { "changes.f": user }, doc! { "changes.t": user }],
            Some(with) => [
                doc! { "changes.f": user, "changes.t": with },
                doc! { "changes.f": with, "changes.t": user },
            ],
        };
        let mut pipeline =
            vec![doc! { "$match": { "users": user, "_id": { "$gte": number(seq)? } } }];
        pipeline.extend_from_slice(of_entries);
        pipeline.extend([
            doc! { "$project": { "append": 1, "changes": 1 } },
            doc! { "$unwind": { "path": "$changes", "includeArrayIndex": "index" } },
            doc! { "$match": { "$or": wanted.to_vec() } },
        ]);
        pipeline.extend_from_slice(of_changes);
        let (events, session) = (self.events.clone(), self.session());
        let aggregate = async move {
            let mut session = session.await?;
            let found = events.aggregate(pipeline).session(&mut *session);
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

fn append_of(document: &RawDocument) -> Result<Uuid, StoreError> {
    let append = document.get("append").map_err(unreadable)?.and_then(to_uuid);
    append.ok_or_else(|| unreadable("the append of a log entry is no UUID"))
}
