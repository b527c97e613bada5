//! The collection that legacy documents are read from. Nothing here writes to it.

use contracts::MAX_BATCH_BYTES;
use futures_util::TryStreamExt;
use mongodb::{
    Collection,
    bson::{Binary, RawDocumentBuf, doc},
    results::{CollectionSpecification, CollectionType},
};
use tokio::sync::mpsc;

use super::document::LegacyDocument;
use crate::{Store, StoreError};

/// Maximum number of documents in a batch.
const BATCH_DOCUMENTS: usize = 1_000;

/// Size of the documents after which a batch is full.
const BATCH_BYTES: usize = 4 * MAX_BATCH_BYTES;

/// Maximum number of batches that are read ahead.
const READ_AHEAD: usize = 2;

/// A collection of another service.
#[derive(Clone)]
pub struct SourceCollection {
    store: Store,
    collection: Collection<RawDocumentBuf>,
}

/// Reasons why a collection cannot be a source.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The database has no such collection.
    #[error("the database {database} has no collection {name}; it has: {others}")]
    Missing {
        /// Database that was searched.
        database: String,
        /// Name of the missing collection.
        name: String,
        /// Names of its collections.
        others: String,
    },
    /// A view has no documents of its own.
    #[error("{0} is a view or a time series; name the collection that has the documents")]
    NoCollection(String),
    /// The documents would be imported into the collection that they are in.
    #[error(
        "{0} is the collection that messages are imported into; copy the documents of the other service to \
         another collection first, as docs/migration-fastapi.md shows"
    )]
    Target(String),
    /// MongoDB failed.
    #[error("cannot read from the source")]
    Store(#[from] StoreError),
}

impl SourceCollection {
    /// Opens a collection in the database of `source`, from which messages are to be imported into `target`.
    pub async fn open(source: Store, name: &str, target: &Store) -> Result<Self, SourceError> {
        let database = source.database.name().to_owned();
        let found = source.collections().await?;
        let Some(found) = found.iter().find(|collection| collection.name == name) else {
            let mut others: Vec<&str> = found.iter().map(|it| it.name.as_str()).collect();
            others.sort_unstable();
            others.truncate(20);
            let others = if others.is_empty() { "none".to_owned() } else { others.join(", ") };
            return Err(SourceError::Missing { database, name: name.to_owned(), others });
        };
        if found.collection_type != CollectionType::Collection {
            return Err(SourceError::NoCollection(format!("{database}.{name}")));
        }
        // The connection strings may name one server in two ways, but its collection has one UUID.
        let uuid = found.info.uuid.as_ref();
        if uuid.is_some() && uuid == target.messages_uuid().await?.as_ref() {
            return Err(SourceError::Target(format!("{database}.{name}")));
        }
        let collection = source.database.collection(name);
        Ok(Self { store: source, collection })
    }

    /// Returns the name of the collection, with that of its database.
    #[must_use]
    pub fn name(&self) -> String {
        self.collection.namespace().to_string()
    }

    /// Returns the approximate number of documents.
    pub async fn count(&self) -> Result<u64, StoreError> {
        let collection = self.collection.clone();
        self.store.run(async move { collection.estimated_document_count().await }).await
    }

    /// Reads all documents in batches. Reading ends when the receiver is dropped.
    #[must_use]
    pub fn read(&self) -> mpsc::Receiver<Result<Vec<LegacyDocument>, StoreError>> {
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        let collection = self.collection.clone();
        // A task of its own, since a future of the driver must not be dropped half way.
        tokio::spawn(async move {
            if let Err(error) = send_all(&collection, &sender).await {
                // A receiver that is gone needs no error.
                let _ = sender.send(Err(error.into())).await;
            }
        });
        receiver
    }
}

async fn send_all(
    collection: &Collection<RawDocumentBuf>,
    sender: &mpsc::Sender<Result<Vec<LegacyDocument>, StoreError>>,
) -> Result<(), mongodb::error::Error> {
    let batch_size = u32::try_from(BATCH_DOCUMENTS).unwrap_or(u32::MAX);
    // Along the documents themselves: an order would cost an index scan, and none is needed.
    let mut documents = collection.find(doc! {}).batch_size(batch_size).await?;
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while let Some(document) = documents.try_next().await? {
        bytes += document.as_bytes().len();
        batch.push(LegacyDocument(document));
        if batch.len() == BATCH_DOCUMENTS || bytes >= BATCH_BYTES {
            bytes = 0;
            if sender.send(Ok(std::mem::take(&mut batch))).await.is_err() {
                return Ok(());
            }
        }
    }
    if !batch.is_empty() {
        // As above.
        let _ = sender.send(Ok(batch)).await;
    }
    Ok(())
}

impl Store {
    async fn collections(&self) -> Result<Vec<CollectionSpecification>, StoreError> {
        let database = self.database.clone();
        self.run(async move { database.list_collections().await?.try_collect().await }).await
    }

    /// Returns the UUID of the collection of messages; `None` if it does not exist yet.
    async fn messages_uuid(&self) -> Result<Option<Binary>, StoreError> {
        let collections = self.collections().await?;
        let messages = collections.into_iter().find(|it| it.name == self.messages.name());
        Ok(messages.and_then(|messages| messages.info.uuid))
    }
}
