//! Reads of messages by id.

use std::collections::HashMap;

use contracts::{MessageId, VersionedMessage};
use futures_util::TryStreamExt;
use mongodb::bson::{RawDocumentBuf, doc};

use super::document::raw_message;
use crate::{
    Store, StoreError,
    batcher::Worker,
    convert::{message_uuids, raw_uuid},
};

/// Maximum number of messages in one query: MongoDB's first batch of an answer.
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
            match self.find_many(reads.iter().map(|read| read.key)).await {
                Ok(found) => {
                    for read in reads {
                        let message = found.get(&read.key).cloned().transpose();
                        read.complete(message);
                    }
                }
                Err(error) => {
                    for read in reads {
                        read.complete(Err(error.clone()));
                    }
                }
            }
        }
    }

    /// Returns the messages that exist, or the reason why one cannot be read.
    async fn find_many(
        &self,
        ids: impl Iterator<Item = MessageId>,
    ) -> Result<HashMap<MessageId, Result<VersionedMessage, StoreError>>, StoreError> {
        let messages = self.raw_messages.clone();
        let filter =
            doc! { "_id": { "$in": message_uuids(ids) }, "deleted_at": { "$exists": false } };
        let documents: Vec<RawDocumentBuf> =
            self.run(async move { messages.find(filter).await?.try_collect().await }).await?;
        let mut found = HashMap::with_capacity(documents.len());
        for document in documents {
            found.insert(MessageId::from(raw_uuid(&document)?), raw_message(&document));
        }
        Ok(found)
    }
}
