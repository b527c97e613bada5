//! The collection that legacy documents are read from. Nothing here writes to it.

use std::time::Duration;

use contracts::MAX_BATCH_BYTES;
use futures_util::TryStreamExt;
use mongodb::{
    Collection,
    bson::{Binary, Document, RawDocumentBuf, doc, rawdoc},
    error::Error,
    options::Hint,
    results::{CollectionSpecification, CollectionType},
};
use telemetry::OutageLog;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use super::document::LegacyDocument;
use crate::{Store, StoreError};

/// Maximum number of documents in a batch.
const BATCH_DOCUMENTS: usize = 1_000;

/// Size of the documents after which a batch is full.
const BATCH_BYTES: usize = 4 * MAX_BATCH_BYTES;

/// Maximum number of batches that are read ahead.
const READ_AHEAD: usize = 2;

/// Time for which reading is retried while MongoDB fails.
const RETRY_LIMIT: Duration = Duration::from_mins(1);

/// Pause between two tries.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

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

    /// Reads all documents in batches, each once. If MongoDB fails, reading goes on where it was, unless that
    /// fails for a minute. Reading ends when the receiver is dropped.
    #[must_use]
    pub fn read(&self) -> mpsc::Receiver<Result<Vec<LegacyDocument>, StoreError>> {
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        let collection = self.collection.clone();
        let reader = Reader { collection, sender, batch: Vec::new(), batch_bytes: 0, last: None };
        // A task of its own, since a future of the driver must not be dropped half way.
        tokio::spawn(reader.run());
        receiver
    }
}

/// Reads the documents of a collection in the order of their ids.
struct Reader {
    collection: Collection<RawDocumentBuf>,
    sender: mpsc::Sender<Result<Vec<LegacyDocument>, StoreError>>,
    batch: Vec<LegacyDocument>,
    batch_bytes: usize,
    /// The `_id` of the last document, as a document.
    last: Option<RawDocumentBuf>,
}

impl Reader {
    async fn run(mut self) {
        let outage = OutageLog::new("read from the source");
        let mut progress = Instant::now();
        loop {
            let before = self.last.clone();
            let error = match self.send_rest(&outage).await {
                Ok(()) => return,
                Err(error) => StoreError::from(error),
            };
            if before != self.last {
                progress = Instant::now();
            }
            if error.is_permanent() || progress.elapsed() >= RETRY_LIMIT {
                // A receiver that is gone needs no error.
                let _ = self.sender.send(Err(error)).await;
                return;
            }
            outage.failed(&error);
            tokio::select! {
                () = sleep(RETRY_PAUSE) => {}
                () = self.sender.closed() => return,
            }
        }
    }

    /// Sends the documents that come after the last one.
    async fn send_rest(&mut self, outage: &OutageLog) -> Result<(), Error> {
        let batch_size = u32::try_from(BATCH_DOCUMENTS).unwrap_or(u32::MAX);
        let by_id = doc! { "_id": 1 };
        let mut find = self.collection.find(doc! {}).sort(by_id.clone()).batch_size(batch_size);
        let last = self.last.clone();
        if let Some(last) = &last {
            // Ids may have any types, and `$gt` would find those of one type. A bound of the index finds
            // all, the last one included.
            find = find.hint(Hint::Keys(by_id)).min(Document::try_from(last)?);
        }
        let mut documents = find.await?;
        while let Some(document) = documents.try_next().await? {
            outage.succeeded();
            let id = document.get("_id")?.map(|id| rawdoc! { "_id": id });
            if id.is_some() && id == last {
                continue;
            }
            self.last = id;
            self.batch_bytes += document.as_bytes().len();
            self.batch.push(LegacyDocument(document));
            let is_full = self.batch.len() == BATCH_DOCUMENTS || self.batch_bytes >= BATCH_BYTES;
            if is_full && !self.send_batch().await {
                return Ok(());
            }
        }
        if !self.batch.is_empty() {
            self.send_batch().await;
        }
        Ok(())
    }

    /// Returns false if the receiver is gone.
    async fn send_batch(&mut self) -> bool {
        self.batch_bytes = 0;
        self.sender.send(Ok(std::mem::take(&mut self.batch))).await.is_ok()
    }
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
