//! Lists of messages. Many clients ask for the same page of a lively conversation at the same time.

use std::sync::Arc;

#[cfg(feature = "explain")]
use mongodb::bson::{Document, doc};

use super::{
    document::raw_message,
    page::{ListQuery, Page, Position, order},
};
use crate::{
    Store, StoreError,
    batcher::{PendingRead, Worker},
};

impl Store {
    /// Returns a page of the messages between two users, newest first.
    pub async fn list(&self, query: &ListQuery) -> Result<Arc<Page>, StoreError> {
        let work = |worker| self.clone().list_waiting(worker);
        self.reads_of_lists.read(query.clone(), self.operation_timeout, work).await
    }

    async fn list_waiting(self, mut worker: Worker<ListQuery, Arc<Page>>) {
        while let Some(reads) = worker.take(all_like_the_first) {
            let Some(first) = reads.first() else { return };
            let page = self.page(&first.key).await.map(Arc::new);
            for read in reads {
                read.complete(page.clone());
            }
        }
    }

    async fn page(&self, query: &ListQuery) -> Result<Page, StoreError> {
        let limit = usize::from(query.limit);
        // One more tells whether there is a next page.
        let fetched = i64::from(query.limit) + 1;
        let query = query.clone();
        let find = self.find_all(&self.messages, move |messages| {
            messages.find(query.filter()).sort(order()).limit(fetched)
        });
        let found = find.await?;
        let more = found.len() > limit;
        let mut messages = Vec::with_capacity(limit);
        for document in found.iter().take(limit) {
            match raw_message(document) {
                Ok(message) => messages.push(message),
                // A damaged message must not make its whole conversation unreadable.
                Err(error) => self.unreadable.left_out(document, &error),
            }
        }
        let last = if more { found.get(limit - 1) } else { None };
        let next = last.and_then(|document| Position::of(document));
        Ok(Page { messages, next })
    }
}

/// Takes the reads that ask for the same page as the one that has waited longest.
fn all_like_the_first<T>(
    waiting: &mut Vec<PendingRead<ListQuery, T>>,
) -> Vec<PendingRead<ListQuery, T>> {
    let Some(first) = waiting.first().map(|read| read.key.clone()) else { return Vec::new() };
    waiting.extract_if(.., |read| read.key == first).collect()
}

#[cfg(feature = "explain")]
impl Store {
    /// Returns MongoDB's `explain` with `executionStats` of a list, for tests of its cost.
    pub async fn explain_list(&self, query: &ListQuery) -> Result<Document, StoreError> {
        let database = self.database.clone();
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
