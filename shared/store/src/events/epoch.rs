//! The epoch of the log: it tells positions in this log from those in the log before a backup was restored.

use mongodb::{
    bson::{self, RawDocument, RawDocumentBuf, doc},
    options::ReturnDocument,
};
use uuid::Uuid;

use crate::{
    Store, StoreError,
    convert::{bson_uuid, to_uuid, unreadable},
};

/// `_id` of the document in the collection `meta`.
const ID: &str = "events";

impl Store {
    /// Returns the epoch; `None` before a worker has made one.
    pub async fn log_epoch(&self) -> Result<Option<Uuid>, StoreError> {
        let find = self.find_all(&self.meta, |meta| meta.find(doc! { "_id": ID }));
        find.await?.pop().map(|document| read(&document)).transpose()
    }

    /// Returns the epoch, and makes one if there is none.
    pub async fn ensure_log_epoch(&self) -> Result<Uuid, StoreError> {
        if let Some(epoch) = self.log_epoch().await? {
            return Ok(epoch);
        }
        self.update_epoch(doc! { "$setOnInsert": { "epoch": new_epoch() } }).await
    }

    /// Replaces the epoch. Every subscriber then starts over.
    pub async fn renew_log_epoch(&self) -> Result<Uuid, StoreError> {
        self.update_epoch(doc! { "$set": { "epoch": new_epoch() } }).await
    }

    async fn update_epoch(&self, update: bson::Document) -> Result<Uuid, StoreError> {
        let (meta, session) = (self.meta.clone(), self.session());
        let upsert = async move {
            let mut session = session.await?;
            let update = meta.find_one_and_update(doc! { "_id": ID }, update).upsert(true);
            update.return_document(ReturnDocument::After).session(&mut *session).await
        };
        let document: Option<RawDocumentBuf> = self.run(upsert).await?;
        read(&document.unwrap_or_default())
    }
}

fn read(document: &RawDocument) -> Result<Uuid, StoreError> {
    let epoch = document.get("epoch").ok().flatten().and_then(to_uuid);
    epoch.ok_or_else(|| unreadable("the log's epoch is no UUID"))
}

fn new_epoch() -> bson::Uuid {
    bson_uuid(Uuid::new_v4())
}
