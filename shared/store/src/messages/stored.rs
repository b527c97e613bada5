//! Reads of messages and tombstones alike, which tell a write why its filter matched nothing.

use std::collections::HashMap;

use contracts::MessageId;
use futures_util::TryStreamExt;
use mongodb::bson::{RawDocumentBuf, doc};

use super::document::StoredDocument;
use crate::{
    Store, StoreError,
    convert::{message_uuid, message_uuids},
};

impl Store {
    pub(crate) async fn read_stored(
        &self,
        id: MessageId,
    ) -> Result<Option<StoredDocument>, StoreError> {
        let messages = self.raw_messages.clone();
        let found = self
            .run(async move { messages.find_one(doc! { "_id": message_uuid(id) }).await })
            .await?;
        found.as_deref().map(StoredDocument::from_raw).transpose()
    }

    pub(super) async fn read_stored_many(
        &self,
        ids: Vec<MessageId>,
    ) -> Result<HashMap<MessageId, StoredDocument>, StoreError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let filter = doc! { "_id": { "$in": message_uuids(ids) } };
        let messages = self.raw_messages.clone();
        let documents: Vec<RawDocumentBuf> =
            self.run(async move { messages.find(filter).await?.try_collect().await }).await?;
        by_id(&documents)
    }
}

pub(super) fn by_id(
    documents: &[RawDocumentBuf],
) -> Result<HashMap<MessageId, StoredDocument>, StoreError> {
    let parsed = documents.iter().map(|document| {
        let document = StoredDocument::from_raw(document)?;
        Ok((document.id(), document))
    });
    parsed.collect()
}
