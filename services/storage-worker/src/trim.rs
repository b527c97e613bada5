//! Trimming the log of changes, every few minutes on each worker.

use std::time::Duration;

use store::{Store, StoreError};
use telemetry::{
    OutageLog,
    metrics::{Counter, catalog},
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Mean time between two trimmings, the first of which comes at once.
const INTERVAL: Duration = Duration::from_mins(5);

/// Deletes what is older than the retention, until `stop`.
pub(crate) async fn trim_regularly(store: Store, retention: Duration, stop: CancellationToken) {
    let outage = OutageLog::new("trim the log of changes");
    let trimmed_entries = catalog::LOG_TRIMMED_ENTRIES.register();
    let trimming = async {
        loop {
            match trim(&store, retention, &trimmed_entries).await {
                Ok(()) => drop(outage.succeeded()),
                Err(error) => outage.failed(&error),
            }
            // With jitter, so that workers that start together do not trim together.
            sleep(INTERVAL.mul_f64(rand::random_range(0.8..1.2))).await;
        }
    };
    stop.run_until_cancelled(Box::pin(trimming)).await;
}

async fn trim(store: &Store, retention: Duration, trimmed: &Counter) -> Result<(), StoreError> {
    let mut entries = 0;
    loop {
        match store.trim_log(retention).await? {
            0 => break,
            deleted => entries += deleted,
        }
    }
    if entries > 0 {
        trimmed.increment(entries);
        tracing::info!(entries, "deleted expired entries of the log of changes");
    }
    Ok(())
}
