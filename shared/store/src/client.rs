//! The connection to MongoDB, and the rule by which every operation runs on it.

use std::{sync::Arc, time::Duration};

use contracts::{MessageId, VersionedMessage};
use mongodb::{
    Client, Collection, Database,
    bson::RawDocumentBuf,
    error::ErrorKind,
    options::{
        Acknowledgment, ClientOptions, CollectionOptions, ConnectionString, ReadConcern,
        ReadPreference, SelectionCriteria, WriteConcern,
    },
};
use telemetry::{
    OutageLog,
    metrics::{Histogram, catalog},
};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};

use crate::{
    batcher::Batcher,
    causal_clock::CausalClock,
    config::StoreSettings,
    driver_error::is_unknown_name,
    error::StoreError,
    messages::page::{ListQuery, Page},
    unreadable::UnreadableDocuments,
};

/// Maximum time the driver looks for a usable server. It is below every operation's limit, so that an
/// operation that finds no server fails with the reason instead of a timeout.
const SERVER_SELECTION_TIMEOUT: Duration = Duration::from_millis(1500);

/// Maximum time for connecting to a server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Interval of the driver's checks of each server. A frozen server is noticed after this plus the
/// connect timeout. The default of 10 s would let abandoned operations hold connections for 20 s.
const MONITOR_INTERVAL: Duration = Duration::from_secs(2);

/// Maximum time of looking up the hosts of `mongodb+srv://`.
const LOOKUP_TIMEOUT: Duration = Duration::from_mins(1);

/// Pause between two of these lookups.
const LOOKUP_PAUSE: Duration = Duration::from_secs(1);

/// Maximum number of concurrent queries by id. More would only make each of them serve fewer reads.
const MAX_ID_QUERIES: usize = 4;

/// Maximum number of concurrent queries of lists.
const MAX_LIST_QUERIES: usize = 16;

/// The stored messages and the outcomes of their commands. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pub(crate) database: Database,
    pub(crate) messages: Collection<RawDocumentBuf>,
    pub(crate) operations: Collection<RawDocumentBuf>,
    pub(crate) delivery_attempts: Collection<RawDocumentBuf>,
    pub(crate) events: Collection<RawDocumentBuf>,
    pub(crate) meta: Collection<RawDocumentBuf>,
    pub(crate) reads_by_id: Batcher<MessageId, Option<VersionedMessage>>,
    pub(crate) reads_of_lists: Batcher<ListQuery, Arc<Page>>,
    pub(crate) unreadable: UnreadableDocuments,
    pub(crate) clock: CausalClock,
    permits: Arc<Semaphore>,
    pub(crate) operation_timeout: Duration,
    duration_ok: Histogram,
    duration_failed: Histogram,
}

impl Store {
    /// Creates a store that connects at its first use. Fails only for a wrong connection string, or if
    /// the name in `mongodb+srv://` cannot be looked up for a minute.
    pub async fn new(settings: StoreSettings) -> Result<Self, StoreError> {
        let mut options = client_options(settings.config.uri.connection).await?;
        options.app_name = Some(settings.app_name.to_owned());
        options.max_pool_size = Some(settings.max_connections);
        options.min_pool_size = options.min_pool_size.map(|it| it.min(settings.max_connections));
        options.server_selection_timeout = Some(SERVER_SELECTION_TIMEOUT);
        options.connect_timeout = Some(CONNECT_TIMEOUT);
        options.heartbeat_freq = Some(MONITOR_INTERVAL);
        let database = Client::with_options(options)?.database(&settings.config.database.0);
        // A confirmed write is on the disks of a majority, and a read sees only such writes.
        let durable = WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build();
        let options = CollectionOptions::builder()
            .read_concern(ReadConcern::majority())
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
            .write_concern(durable)
            .build();
        let collection = |name| database.collection_with_options(name, options.clone());
        Ok(Self {
            messages: collection("messages"),
            operations: collection("operations"),
            delivery_attempts: collection("suspects"),
            events: collection("events"),
            meta: collection("meta"),
            reads_by_id: Batcher::new(MAX_ID_QUERIES),
            reads_of_lists: Batcher::new(MAX_LIST_QUERIES),
            unreadable: UnreadableDocuments::new(),
            clock: CausalClock::default(),
            database,
            permits: Arc::new(Semaphore::new(settings.max_connections as usize)),
            operation_timeout: settings.operation_timeout,
            duration_ok: catalog::STORE_DURATION.with(&[("result", "ok")]),
            duration_failed: catalog::STORE_DURATION.with(&[("result", "failed")]),
        })
    }

    /// Runs an operation in a task of its own, within this store's limit of time.
    ///
    /// A future of the driver must not be dropped half way. Therefore a client that leaves, or a
    /// timeout, abandons only the wait. The task holds a permit until the operation has really
    /// ended, so operations on a frozen server cannot pile up.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        operation: impl Future<Output = mongodb::error::Result<T>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let begun = Instant::now();
        let result = self.run_within(self.operation_timeout, operation).await;
        let duration = if result.is_ok() { &self.duration_ok } else { &self.duration_failed };
        duration.record(begun.elapsed());
        result
    }

    /// Does the same within another limit of time, and without measuring it.
    pub(crate) async fn run_within<T: Send + 'static>(
        &self,
        limit: Duration,
        operation: impl Future<Output = mongodb::error::Result<T>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permits = Arc::clone(&self.permits);
        let running = async {
            // The semaphore is never closed.
            let permit = permits.acquire_owned().await;
            let task = tokio::spawn(async move {
                let result = operation.await;
                drop(permit);
                result
            });
            task.await
        };
        match timeout(limit, running).await {
            Ok(Ok(result)) => result.map_err(StoreError::from),
            Ok(Err(error)) if error.is_panic() => Err(StoreError::Panicked(error.to_string())),
            Ok(Err(error)) => Err(StoreError::Cancelled(error.to_string())),
            Err(_) => Err(StoreError::Timeout(limit)),
        }
    }
}

/// Returns the options in a connection string. With `mongodb+srv://`, hosts and options are looked up in
/// the domain name system; a server of that which is away does not make the string wrong.
async fn client_options(uri: ConnectionString) -> Result<ClientOptions, StoreError> {
    let deadline = Instant::now() + LOOKUP_TIMEOUT;
    let outage = OutageLog::new("look up MongoDB's hosts");
    loop {
        let error = match ClientOptions::parse(uri.clone()).await {
            Ok(options) => {
                outage.succeeded();
                return Ok(options);
            }
            Err(error) => error,
        };
        let is_away = matches!(&*error.kind, ErrorKind::DnsResolve { .. })
            && !is_unknown_name(&error)
            && Instant::now() < deadline;
        let error = StoreError::from(error);
        if !is_away {
            return Err(error);
        }
        outage.failed(&error);
        sleep(LOOKUP_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StoreConfig;

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
