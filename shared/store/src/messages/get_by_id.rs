//! Reads of messages by id.

use std::collections::HashMap;

use contracts::{MessageId, VersionedMessage};
use futures_util::TryStreamExt;
use mongodb::bson::{Document, RawDocumentBuf, doc};

use super::document::{StoredDocument, raw_message};
use crate::{
    Store, StoreError,
    batcher::Worker,
    convert::{bson_uuid, bson_uuids, unreadable},
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
                    Ok(found) => Ok(found.get(&read.key).cloned()),
                    Err(error) => Err(error.clone()),
                };
                read.complete(message);
            }
        }
    }

    /// Returns the messages that exist and can be read.
    async fn find_many(
        &self,
        ids: impl Iterator<Item = MessageId>,
    ) -> Result<HashMap<MessageId, VersionedMessage>, StoreError> {
        let filter = doc! { "_id": { "$in": bson_uuids(ids) }, "deleted_at": { "$exists": false } };
        let documents = self.read_raw(filter).await?;
        let read = |document: &RawDocumentBuf| match raw_message(document) {
            Ok(stored) => Some((stored.message.id, stored)),
            Err(error) => {
                self.unreadable.left_out(document, &error);
                None
            }
        };
        Ok(documents.iter().filter_map(read).collect())
    }

    /// Returns the document that has the id of a new message.
    pub(super) async fn read_stored(
        &self,
        id: MessageId,
    ) -> Result<Option<StoredDocument>, StoreError> {
        Ok(self.read_stored_many(vec![id]).await?.remove(&id))
    }

    /// Returns a message or tombstone, which tells what became of a command.
    pub(crate) async fn read_changed(
        &self,
        id: MessageId,
    ) -> Result<Option<StoredDocument>, StoreError> {
        let documents = self.read_raw(doc! { "_id": bson_uuid(id) }).await?;
        Ok(self.own_by_id(&documents)?.remove(&id))
    }

    /// Reads messages and tombstones. A document of another service counts as none.
    pub(super) fn own_by_id(
        &self,
        documents: &[RawDocumentBuf],
    ) -> Result<HashMap<MessageId, StoredDocument>, StoreError> {
        StoredDocument::by_id(documents.iter().filter(|document| {
            let is_ours = !matches!(document.get("created_by"), Ok(None));
            if !is_ours {
                self.unreadable.left_out(document, &unreadable("created_by is missing"));
            }
            is_ours
        }))
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
