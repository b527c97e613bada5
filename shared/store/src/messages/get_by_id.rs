//! Reads of messages by id.

use std::collections::HashMap;

use contracts::{MessageId, VersionedMessage};
use mongodb::bson::{RawDocumentBuf, doc};

use super::document::{Found, StoredDocument, is_deleted, raw_message};
use crate::{
    Store, StoreError,
    batcher::Worker,
    convert::{bson_uuids, raw_uuid, unreadable},
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
        let documents = self.read_by_id(ids).await?;
        // Told apart here: MongoDB answers an equality on _id alone without its query planner, which costs more than the
        // read.
        let read = |document: &RawDocumentBuf| match raw_message(document) {
            Ok(stored) => Some((stored.message.id, stored)),
            Err(error) => {
                self.unreadable.left_out(document, &error);
                None
            }
        };
        Ok(documents.iter().filter(|it| !is_deleted(it)).filter_map(read).collect())
    }

    /// Returns a message or tombstone, which tells what became of a command.
    pub(crate) async fn read_changed(&self, id: MessageId) -> Result<Option<Found>, StoreError> {
        let documents = self.read_by_id([id]).await?;
        Ok(self.own_by_id(&documents)?.remove(&id))
    }

    /// Reads messages and tombstones. A document of another service counts as none.
    pub(super) fn own_by_id(
        &self,
        documents: &[RawDocumentBuf],
    ) -> Result<HashMap<MessageId, Found>, StoreError> {
        let own = documents.iter().filter(|document| {
            let is_ours = !matches!(document.get("created_by"), Ok(None));
            if !is_ours {
                self.unreadable.left_out(document, &unreadable("created_by is missing"));
            }
            is_ours
        });
        own.map(|document| Ok((raw_uuid(document)?.into(), Found::read(document)))).collect()
    }

    /// Returns the documents that have the ids of new messages.
    pub(super) async fn read_stored(
        &self,
        ids: Vec<MessageId>,
    ) -> Result<HashMap<MessageId, StoredDocument>, StoreError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let documents = self.read_by_id(ids).await?;
        let read = |document: &RawDocumentBuf| {
            Ok((raw_uuid(document)?.into(), StoredDocument::from_raw(document)?))
        };
        documents.iter().map(read).collect()
    }

    pub(super) async fn read_by_id(
        &self,
        ids: impl IntoIterator<Item = MessageId>,
    ) -> Result<Vec<RawDocumentBuf>, StoreError> {
        let ids = bson_uuids(ids);
        self.find_all(&self.messages, move |messages| {
            let only = if let [id] = ids[..] { Some(id) } else { None };
            let all = || doc! { "_id": { "$in": &ids[..] } };
            messages.find(only.map_or_else(all, |id| doc! { "_id": id }))
        })
        .await
    }
}
