//! Reading messages by id.

use std::collections::HashMap;

use contracts::{MessageId, VersionedMessage};
use futures_util::TryStreamExt;
use mongodb::bson::{Bson, RawDocumentBuf, doc};

use crate::{
    Store, StoreError,
    batcher::{Gathering, Reader},
    documents::{message_uuid, raw_message, raw_uuid},
};

/// Queries at once.
const MAX_READERS: usize = 4;

/// Messages in one query: as many as MongoDB answers with at once.
const MAX_IDS: usize = 100;

type Found = Option<VersionedMessage>;

/// The reads by id that wait for a query.
pub(crate) type MessageLoader = Gathering<MessageId, Found>;

pub(crate) fn gather_finds() -> MessageLoader {
    Gathering::new(MAX_READERS)
}

impl Store {
    /// A message, unless there is none or it is deleted.
    pub async fn find(&self, id: MessageId) -> Result<Found, StoreError> {
        let limit = self.operation_timeout();
        self.finds.find(id, limit, |reader| self.clone().find_waiting(reader)).await
    }

    async fn find_waiting(self, mut reader: Reader<MessageId, Found>) {
        while let Some(reads) =
            reader.take(|waiting| waiting.drain(..waiting.len().min(MAX_IDS)).collect())
        {
            let ids = reads.iter().map(|read| read.wanted).collect();
            match self.find_many(ids).await {
                Ok(found) => {
                    for read in reads {
                        let message = found.get(&read.wanted).cloned().transpose();
                        read.answer(message);
                    }
                }
                Err(error) => {
                    for read in reads {
                        read.answer(Err(error.clone()));
                    }
                }
            }
        }
    }

    /// Those of the messages that are there, or why one cannot be read.
    async fn find_many(
        &self,
        ids: Vec<MessageId>,
    ) -> Result<HashMap<MessageId, Result<VersionedMessage, StoreError>>, StoreError> {
        let messages = self.messages.clone_with_type::<RawDocumentBuf>();
        let id = match ids.as_slice() {
            [id] => Bson::from(message_uuid(*id)),
            ids => {
                let ids: Vec<Bson> = ids.iter().map(|id| Bson::from(message_uuid(*id))).collect();
                Bson::from(doc! { "$in": ids })
            }
        };
        let filter = doc! { "_id": id, "deleted_at": { "$exists": false } };
        let documents: Vec<RawDocumentBuf> =
            self.run(async move { messages.find(filter).await?.try_collect().await }).await?;
        let mut found = HashMap::with_capacity(documents.len());
        for document in documents {
            found.insert(MessageId::from(raw_uuid(&document)?), raw_message(&document));
        }
        Ok(found)
    }
}
