//! Reading the log for the tail: at the start, where a hint is missing, and each second.

use std::{sync::Arc, time::Duration};

use contracts::LogEntry;
use store::{Store, StoreError};
use telemetry::OutageLog;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{memory::MAX_CHANGES, tail::Tail};

/// Interval of reads. So long does a lost hint delay an event, or a new epoch the `reset`.
const INTERVAL: Duration = Duration::from_secs(1);

/// Maximum number of entries in one read.
const PAGE: u16 = 64;

/// Maximum number of reads that fill the memory at the start, so that the clients of a replica that stopped need not all
/// read the log themselves.
const MAX_PRELOADED_PAGES: usize = 64;

/// Reads the log until `stop`.
pub(crate) async fn run(tail: Arc<Tail>, store: Store, stop: CancellationToken) {
    let outage = OutageLog::new("read the log of changes");
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tail.behind.notified() => {}
            _ = ticks.tick() => {}
        }
        match read(&tail, &store).await {
            Ok(following) => {
                outage.succeeded();
                tail.set_up(following);
            }
            Err(error) => {
                outage.failed(&error);
                tail.set_up(false);
            }
        }
    }
}

/// Reads what is new. If it is another log than the tail follows, begins to follow that. Returns false if there is no log:
/// a worker makes it.
async fn read(tail: &Tail, store: &Store) -> Result<bool, StoreError> {
    let Some(epoch) = store.log_epoch().await? else { return Ok(false) };
    while let Some((log, newest)) = tail.followed() {
        if log.epoch != epoch {
            tracing::info!("the log of changes is another one; all event streams start over");
            break;
        }
        // With the newest one, which tells whether this is still the same log.
        let mut entries = store.log_from(newest.0, PAGE).await?;
        let full = entries.len() == usize::from(PAGE);
        if newest.0 > 0 {
            let known = entries.first().is_some_and(|entry| (entry.seq, entry.append) == newest);
            if !known {
                tracing::warn!(
                    entry = newest.0,
                    "the log of changes has lost its newest entry; all event streams start over"
                );
                break;
            }
            entries.remove(0);
        }
        if !tail.take_read(log, entries) {
            tracing::warn!(
                entry = newest.0,
                "the log of changes has a hole; all event streams start over behind it"
            );
            break;
        }
        if !full {
            return Ok(true);
        }
    }
    let newest = store.newest_log_entry().await?;
    let newest = newest.map_or((0, Uuid::nil()), |entry| (entry.seq, entry.append));
    let entries = newest_entries(store, newest.0).await?;
    tail.follow_log(epoch, newest, entries);
    Ok(true)
}

/// Returns as many of the newest entries as fit into memory.
async fn newest_entries(store: &Store, newest: u64) -> Result<Vec<LogEntry>, StoreError> {
    let (begun, mut pages, mut changes) = (Instant::now(), Vec::new(), 0);
    let mut before = newest + 1;
    while before > 1 && changes < MAX_CHANGES && pages.len() < MAX_PRELOADED_PAGES {
        let mut page = store.log_before(before, PAGE).await?;
        // The memory has no hole.
        let whole = page.iter().rev().zip((0..before).rev());
        let whole = whole.take_while(|(entry, seq)| entry.seq == *seq).count();
        page.drain(..page.len() - whole);
        let Some(oldest) = page.first().map(|entry| entry.seq) else { break };
        changes += page.iter().map(|entry| entry.changes.len()).sum::<usize>();
        before = oldest;
        pages.push(page);
    }
    let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(newest, changes, took_ms, "following the log of changes");
    Ok(pages.into_iter().rev().flatten().collect())
}
