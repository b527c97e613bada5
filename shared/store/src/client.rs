//! The connection to MongoDB, and the rule by which everything runs on it.

use std::{sync::Arc, time::Duration};

use mongodb::{
    Client, Collection, Database,
    bson::{Document, RawDocumentBuf, doc},
    error::{ErrorKind, WriteFailure},
    options::{
        Acknowledgment, ClientOptions, CollectionOptions, ReadConcern, ReadPreference,
        SelectionCriteria, WriteConcern,
    },
};
use telemetry::metrics::{Histogram, catalog};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, interval, timeout_at},
};

use crate::{
    StoreSettings,
    documents::{EndingDocument, MessageDocument},
    get_by_id::{MessageLoader, gather_finds},
    list::{Lists, gather_lists},
};

/// MongoDB's code for a value that a unique index, here always that of `_id`, already has.
pub(crate) const DUPLICATE_KEY: i32 = 11000;

/// MongoDB's code for a value that it can't use.
const BAD_VALUE: i32 = 2;

/// How long the driver looks for a usable server. Less than any operation may take, so that an
/// operation which finds none fails with the reason, and not only with its time.
const SERVER_SELECTION_TIMEOUT: Duration = Duration::from_millis(1500);

/// How long connecting to a server may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How often the driver's monitor asks each server; a frozen one is noticed this much later, plus
/// the connect timeout. With the default of 10 s, abandoned operations would hold their
/// connections for 20 s.
const MONITOR_INTERVAL: Duration = Duration::from_secs(2);

/// How often the health check asks.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);

/// How long the server may take to answer that.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

/// What stands between a caller and the data.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The server did not answer in time.
    #[error("MongoDB did not answer within {} ms", .0.as_millis())]
    Silent(Duration),
    /// The server, or the way to it, failed. It may do it the next time.
    #[error("MongoDB failed: {0}")]
    Failed(mongodb::error::Error),
    /// The server did it, and can't say that a majority has it.
    #[error("MongoDB has no majority: {0}")]
    Unconfirmed(String),
    /// The server will not do it, however often it is asked.
    #[error("MongoDB refuses: {0}")]
    Refused(mongodb::error::Error),
    /// A stored document is not what this code writes. It stays so.
    #[error("a stored document cannot be read: {0}")]
    Unreadable(String),
    /// The operation panicked. What it was asked to do is to blame, and would be again.
    #[error("the operation panicked: {0}")]
    Panicked(String),
    /// The operation's task ended without a result, for the process is going down.
    #[error("the operation was given up: {0}")]
    Cancelled(String),
    /// Too many reads wait for the server already.
    #[error("too many reads wait for MongoDB")]
    Overloaded,
    /// The document changed under each of many attempts.
    #[error("a document changed too often while it was written")]
    Contended,
    /// A command of a batch has no result. Nothing is known of it, so the batch is applied again.
    #[error("a command was left out of its batch")]
    MissingResult,
}

/// The stored messages. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    database: Database,
    pub(crate) messages: Collection<MessageDocument>,
    pub(crate) stored: Collection<RawDocumentBuf>,
    pub(crate) endings: Collection<EndingDocument>,
    pub(crate) suspects: Collection<Document>,
    pub(crate) finds: MessageLoader,
    pub(crate) lists: Lists,
    permits: Arc<Semaphore>,
    operation_timeout: Duration,
    durations: Durations,
}

/// How long operations took, by how they ended.
#[derive(Clone)]
struct Durations {
    ok: Histogram,
    failed: Histogram,
}

impl StoreError {
    /// Whether trying again can't help.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Unreadable(_) | Self::Panicked(_))
    }
}

impl From<mongodb::error::Error> for StoreError {
    fn from(error: mongodb::error::Error) -> Self {
        match &*error.kind {
            ErrorKind::Bson(_) => Self::Unreadable(error.to_string()),
            // Of a whole command this code can also mean the server and not what it was asked: one
            // without a journal answers every write so, for none can be journaled.
            ErrorKind::Command(command) if command.code == BAD_VALUE => Self::Failed(error),
            ErrorKind::Command(command) if is_permanent_code(command.code) => Self::Refused(error),
            ErrorKind::Write(WriteFailure::WriteError(write)) if is_permanent_code(write.code) => {
                Self::Refused(error)
            }
            _ => Self::Failed(error),
        }
    }
}

/// Whether MongoDB says with this code that it will never store this document or run this update.
/// Only codes that are certain: what is taken for permanent is set aside, and an outage must not
/// set anything aside.
pub(crate) fn is_permanent_code(code: i32) -> bool {
    const FAILED_TO_PARSE: i32 = 9;
    const TYPE_MISMATCH: i32 = 14;
    const DOCUMENT_VALIDATION_FAILURE: i32 = 121;
    const OBJECT_TOO_LARGE: i32 = 10334;
    /// `$add` met a stored value that is no number or date.
    const ADD_TYPE: i32 = 16554;
    /// `$concatArrays` met a stored value that is no array.
    const CONCAT_ARRAYS_TYPE: i32 = 28664;
    matches!(
        code,
        BAD_VALUE
            | FAILED_TO_PARSE
            | TYPE_MISMATCH
            | DOCUMENT_VALIDATION_FAILURE
            | OBJECT_TOO_LARGE
            | ADD_TYPE
            | CONCAT_ARRAYS_TYPE
    )
}

impl Store {
    /// A store that connects when it is first used. Fails only for a wrong connection string.
    pub async fn new(settings: StoreSettings) -> Result<Self, StoreError> {
        let mut options = ClientOptions::parse(settings.config.uri.into_inner()).await?;
        options.app_name = Some(settings.app_name.to_owned());
        options.max_pool_size = Some(settings.max_connections);
        options.server_selection_timeout = Some(SERVER_SELECTION_TIMEOUT);
        options.connect_timeout = Some(CONNECT_TIMEOUT);
        options.heartbeat_freq = Some(MONITOR_INTERVAL);
        let database = Client::with_options(options)?.database(settings.config.database.as_str());
        // What is answered as stored is on the disks of a majority, and what is read is too.
        let durable = WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build();
        let collection_options = CollectionOptions::builder()
            .read_concern(ReadConcern::majority())
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
            .write_concern(durable)
            .build();
        Ok(Self {
            messages: database.collection_with_options("messages", collection_options.clone()),
            stored: database.collection_with_options("messages", collection_options.clone()),
            endings: database.collection_with_options("operations", collection_options.clone()),
            suspects: database.collection_with_options("suspects", collection_options),
            finds: gather_finds(),
            lists: gather_lists(),
            database,
            permits: Arc::new(Semaphore::new(settings.max_connections as usize)),
            operation_timeout: settings.operation_timeout,
            durations: Durations {
                ok: catalog::STORE_DURATION.with(&[("result", "ok")]),
                failed: catalog::STORE_DURATION.with(&[("result", "failed")]),
            },
        })
    }

    /// Asks the server for a sign of life every second, and tells whether it gave one.
    #[must_use]
    pub fn up(&self) -> watch::Receiver<bool> {
        let (up, receiver) = watch::channel(false);
        let store = self.clone();
        tokio::spawn(async move {
            let mut ticks = interval(HEALTH_INTERVAL);
            let mut told = None;
            while !up.is_closed() {
                ticks.tick().await;
                let database = store.database.clone();
                let ping = async move { database.run_command(doc! { "ping": 1 }).await };
                let answer = store.run_within(HEALTH_TIMEOUT, ping).await;
                if told.replace(answer.is_ok()) != Some(answer.is_ok()) {
                    match &answer {
                        Ok(_) => tracing::info!("MongoDB answers"),
                        Err(error) => tracing::warn!(%error, "MongoDB is away"),
                    }
                }
                up.send_replace(answer.is_ok());
            }
        });
        receiver
    }

    /// Runs an operation in a task of its own, for as long as this store's operations may take.
    ///
    /// A driver's future must not be dropped half way: a leaving client or a timeout abandons only
    /// the wait. The task holds a permit until the operation has really ended, so operations that
    /// a frozen server keeps can't pile up.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        operation: impl Future<Output = mongodb::error::Result<T>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let begun = Instant::now();
        let result = self.run_within(self.operation_timeout, operation).await;
        let Durations { ok, failed } = &self.durations;
        if result.is_ok() { ok } else { failed }.record(begun.elapsed());
        result
    }

    async fn run_within<T: Send + 'static>(
        &self,
        limit: Duration,
        operation: impl Future<Output = mongodb::error::Result<T>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let silent = StoreError::Silent(limit);
        let deadline = Instant::now() + limit;
        let acquired = timeout_at(deadline, Arc::clone(&self.permits).acquire_owned()).await;
        let Ok(Ok(permit)) = acquired else {
            return Err(silent);
        };
        let running = tokio::spawn(async move {
            let result = operation.await;
            drop(permit);
            result
        });
        match timeout_at(deadline, running).await {
            Ok(Ok(result)) => result.map_err(StoreError::from),
            Ok(Err(error)) if error.is_panic() => Err(StoreError::Panicked(error.to_string())),
            Ok(Err(error)) => Err(StoreError::Cancelled(error.to_string())),
            Err(_) => Err(silent),
        }
    }

    /// How long an operation may take, waiting included.
    pub(crate) fn operation_timeout(&self) -> Duration {
        self.operation_timeout
    }

    pub(crate) fn database(&self) -> &Database {
        &self.database
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson;

    use super::*;
    use crate::StoreConfig;

    /// What becomes of the errors of a whole command.
    fn command_error(code: i32, name: &str, message: &str) -> StoreError {
        let answer = doc! { "code": code, "codeName": name, "errmsg": message };
        let kind = ErrorKind::Command(bson::deserialize_from_document(answer).unwrap());
        StoreError::from(mongodb::error::Error::from(kind))
    }

    #[test]
    fn a_server_without_a_journal_is_no_fault_of_what_it_is_asked_to_store() {
        let message = "cannot use 'j' option when a host does not have journaling enabled";
        assert!(!command_error(BAD_VALUE, "BadValue", message).is_permanent());
        assert!(command_error(14, "TypeMismatch", "$add only supports numbers").is_permanent());
        assert!(is_permanent_code(BAD_VALUE), "of one document");
    }

    #[tokio::test]
    async fn an_operation_that_panics_is_not_tried_for_ever() {
        let uri = "mongodb://127.0.0.1:1".parse().unwrap();
        let config = StoreConfig { uri, database: "test".parse().unwrap() };
        let store = Store::new(StoreSettings::new(config, "test")).await.unwrap();
        let panics = async || store.run::<()>(async { panic!("asked to") }).await.unwrap_err();
        for _ in 0..2 {
            let error = panics().await;
            assert!(error.is_permanent(), "{error:?}");
            assert!(error.to_string().contains("asked to"), "{error}");
        }
    }
}
