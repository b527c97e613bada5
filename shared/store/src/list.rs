//! Listing messages, for the gateway. Many ask for the same page of a lively conversation at once.

use std::sync::Arc;

use contracts::{MessageId, Timestamp, UserId, VersionedMessage};
use futures_util::TryStreamExt;
use mongodb::bson::{Document, RawDocument, RawDocumentBuf, doc};

use crate::{
    Store, StoreError,
    batcher::{Gathering, Reader, Waiting},
    documents::{bson_date, from_bson_date, message_uuid, raw_message, raw_uuid, unreadable},
};

/// Queries at once.
const MAX_READERS: usize = 16;

/// The lists that wait for a query.
pub(crate) type Lists = Gathering<ListQuery, Arc<Page>>;

pub(crate) fn gather_lists() -> Lists {
    Gathering::new(MAX_READERS)
}

/// Which messages to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListQuery {
    /// Who wrote them.
    pub from_user_id: UserId,
    /// Whom they are for.
    pub to_user_id: UserId,
    /// Whether to add those that the second wrote to the first.
    pub both_directions: bool,
    /// Start after this place, towards the older ones.
    pub after: Option<Position>,
    /// How many at most.
    pub limit: u16,
}

/// A place in the order of all lists: newest first, then by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The publish timestamp of the message there.
    pub publish_timestamp: Timestamp,
    /// Its id.
    pub id: MessageId,
}

/// A page of a list.
#[derive(Clone, Debug)]
pub struct Page {
    /// Newest first.
    pub messages: Vec<VersionedMessage>,
    /// Where the next page starts, if there is one.
    pub next: Option<Position>,
}

impl Store {
    /// A page of the messages between two users, newest first.
    pub async fn list(&self, query: &ListQuery) -> Result<Arc<Page>, StoreError> {
        let limit = self.operation_timeout();
        self.lists.find(query.clone(), limit, |reader| self.clone().list_waiting(reader)).await
    }

    async fn list_waiting(self, mut reader: Reader<ListQuery, Arc<Page>>) {
        while let Some(reads) = reader.take(all_like_the_first) {
            let Some(first) = reads.first() else { return };
            let page = self.page(&first.wanted).await.map(Arc::new);
            for read in reads {
                read.answer(page.clone());
            }
        }
    }

    async fn page(&self, query: &ListQuery) -> Result<Page, StoreError> {
        let messages = self.messages.clone_with_type::<RawDocumentBuf>();
        let filter = query.filter();
        let limit = usize::from(query.limit);
        // One more, to see whether there is a next page.
        let fetched = i64::from(query.limit) + 1;
        let found: Vec<RawDocumentBuf> = self
            .run(async move {
                messages.find(filter).sort(order()).limit(fetched).await?.try_collect().await
            })
            .await?;
        let more = found.len() > limit;
        let mut messages = Vec::with_capacity(limit);
        for document in found.iter().take(limit) {
            match raw_message(document) {
                Ok(message) => messages.push(message),
                // One that something else has damaged must not cost its whole conversation.
                Err(error) => {
                    let id = raw_uuid(document).unwrap_or_default();
                    tracing::warn!(message.id = %id, %error, "left out of a list");
                }
            }
        }
        let last = if more { found.get(limit - 1) } else { None };
        let next = last.map(|document| Position::of(document)).transpose()?;
        Ok(Page { messages, next })
    }
}

impl Position {
    fn of(document: &RawDocument) -> Result<Self, StoreError> {
        let published = document.get_datetime("publish_timestamp").map_err(unreadable)?;
        let id = MessageId::from(raw_uuid(document)?);
        Ok(Self { publish_timestamp: from_bson_date(published)?, id })
    }
}

impl ListQuery {
    /// One branch for each scan of the index: a direction, and after a position those at its
    /// instant and those before it. MongoDB merges the scans in order. Written in any other way,
    /// a page deep in a conversation would examine all that is newer. A tombstone has no users,
    /// so none can be among what is found.
    fn filter(&self) -> Document {
        let forth = [(&self.from_user_id, &self.to_user_id)];
        let and_back =
            [(&self.from_user_id, &self.to_user_id), (&self.to_user_id, &self.from_user_id)];
        // A conversation with oneself has one direction.
        let both = self.both_directions && self.from_user_id != self.to_user_id;
        let directions = if both { &and_back[..] } else { &forth[..] };
        let mut branches = Vec::new();
        for (from, to) in directions {
            let direction = doc! { "from_user_id": from.as_str(), "to_user_id": to.as_str() };
            let Some(after) = self.after else {
                branches.push(direction);
                continue;
            };
            let at = bson_date(after.publish_timestamp);
            let mut same_instant = direction.clone();
            same_instant.insert("publish_timestamp", at);
            same_instant.insert("_id", doc! { "$lt": message_uuid(after.id) });
            let mut before = direction;
            before.insert("publish_timestamp", doc! { "$lt": at });
            branches.extend([same_instant, before]);
        }
        if branches.len() == 1 {
            branches.remove(0)
        } else {
            doc! { "$or": branches }
        }
    }
}

/// Takes those that ask for the same as the one that has waited longest.
fn all_like_the_first<T>(waiting: &mut Vec<Waiting<ListQuery, T>>) -> Vec<Waiting<ListQuery, T>> {
    let Some(first) = waiting.first().map(|read| read.wanted.clone()) else { return Vec::new() };
    waiting.extract_if(.., |read| read.wanted == first).collect()
}

fn order() -> Document {
    doc! { "publish_timestamp": -1, "_id": -1 }
}

/// How MongoDB would run a list, for tests that show what it costs.
#[cfg(feature = "explain")]
impl Store {
    /// The answer to `explain` with `executionStats`.
    pub async fn explain_list(&self, query: &ListQuery) -> Result<Document, StoreError> {
        let database = self.database().clone();
        let find = doc! {
            "find": self.messages.name(),
            "filter": query.filter(),
            "sort": order(),
            "limit": i64::from(query.limit) + 1,
        };
        let explain = doc! { "explain": find, "verbosity": "executionStats" };
        self.run(async move { database.run_command(explain).await }).await
    }
}
