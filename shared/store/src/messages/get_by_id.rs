//! Reads of messages by id.

use std::collections::HashMap;

use contracts::{MessageId, VersionedMessage};
use futures_util::TryStreamExt;
use mongodb::bson::{Document, RawDocumentBuf, doc};

use super::document::{StoredDocument, raw_message};
use crate::{
    Store, StoreError,
    batcher::Worker,
    convert::{bson_uuids, raw_uuid},
};

/// Maximum number of messages in one query: MongoDB's first batch of a result.
const MAX_IDS: usize = 100;

impl Store {
    /// Returns a message; `None` if it does not exist or is deleted.
    pub async fn find(&self, id: MessageId) -> Result<Option<VersionedMessage>, StoreError> {
        let work = |worker| self.clone().find_waiting(worker);
        self.reads_by_id.read(id, self.operation_timeout, work).await
    }

    async fn find_waiting(self, mut worker: Worker<MessageId, Option<VersionedMessage>>) {
        while let Some(reads) =
            worker.take(|waiting| waiting.drain(..waiting.len().min(MAX_IDS)).collect())
        {
            let found = self.find_many(reads.iter().map(|read| read.key)).await;
            for read in reads {
                let message = match &found {
                    Ok(found) => found.get(&read.key).cloned().transpose(),
                    Err(error) => Err(error.clone()),
                };
                read.complete(message);
            }
        }
    }

    /// Returns the messages that exist, or the reason why one cannot be read.
    async fn find_many(
        &self,
        ids: impl Iterator<Item = MessageId>,
    ) -> Result<HashMap<MessageId, Result<VersionedMessage, StoreError>>, StoreError> {
        let filter = doc! { "_id": { "$in": bson_uuids(ids) }, "deleted_at": { "$exists": false } };
        let documents = self.read_raw(filter).await?;
        let read = |document: &RawDocumentBuf| {
            let message = raw_message(document);
            if let Err(error) = &message {
                self.unreadable.left_out(document, error);
            }
            Ok((MessageId::from(raw_uuid(document)?), message))
        };
        documents.iter().map(read).collect()
    }

    /// Returns a message or tombstone, which tells a write why its filter matched nothing.
    pub(crate) async fn read_stored(
        &self,
        id: MessageId,
    ) -> Result<Option<StoredDocument>, StoreError> {
        Ok(self.read_stored_many(vec![id]).await?.remove(&id))
    }

    pub(super) async fn read_stored_many(
        &self,
        ids: Vec<MessageId>,
    ) -> Result<HashMap<MessageId, StoredDocument>, StoreError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let filter = doc! { "_id": { "$in": bson_uuids(ids) } };
        StoredDocument::by_id(&self.read_raw(filter).await?)
    }

    async fn read_raw(&self, filter: Document) -> Result<Vec<RawDocumentBuf>, StoreError> {
        let messages = self.messages.clone();
        self.run(async move { messages.find(filter).await?.try_collect().await }).await
    }
}
