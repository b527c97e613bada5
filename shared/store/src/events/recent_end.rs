//! The end of the log as lists tell it: read at most once a second, since an older position is as good.

use std::time::Duration;

use contracts::EventPosition;
use telemetry::error_chain;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use crate::{Store, StoreError};

/// Time for which a position is used again. Whoever follows from an older one gets some events twice.
const LIFETIME: Duration = Duration::from_secs(1);

/// Maximum time of a read. What is read next has to end within 2 s, too.
const TIMEOUT: Duration = Duration::from_millis(150);

/// A position behind which everything is that a later read does not see.
#[derive(Debug, Default)]
pub struct RecentLogEnd {
    /// Locked while it is read, so that all who need it share one read.
    cached: Mutex<Option<(Instant, Option<EventPosition>)>>,
}

impl RecentLogEnd {
    /// Returns the position; `None` if it cannot be read now, or before a worker has made the log.
    pub async fn get(&self, store: &Store) -> Option<EventPosition> {
        self.get_or_read(|| store.log_end()).await
    }

    async fn get_or_read<F>(&self, read: impl FnOnce() -> F) -> Option<EventPosition>
    where
        F: Future<Output = Result<Option<EventPosition>, StoreError>>,
    {
        let mut cached = self.cached.lock().await;
        if let Some((read_at, position)) = *cached
            && read_at.elapsed() < LIFETIME
        {
            return position;
        }
        // Before the read: its result may be as old.
        let read_at = Instant::now();
        let position = match timeout(TIMEOUT, read()).await {
            Ok(Ok(position)) => position,
            Ok(Err(error)) => {
                tracing::debug!(error = %error_chain(&error), "cannot read the end of the log");
                None
            }
            Err(_) => None,
        };
        *cached = Some((read_at, position));
        position
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::pending};

    use uuid::Uuid;

    use super::*;

    fn position(seq: u64) -> EventPosition {
        EventPosition::behind(Uuid::nil(), seq, Uuid::nil())
    }

    #[tokio::test(start_paused = true)]
    async fn all_share_one_read_a_second() {
        let end = RecentLogEnd::default();
        let reads = Cell::new(0);
        let get = || {
            end.get_or_read(|| async {
                reads.set(reads.get() + 1);
                tokio::time::sleep(TIMEOUT / 2).await;
                Ok(Some(position(reads.get())))
            })
        };
        assert_eq!(tokio::join!(get(), get()), (Some(position(1)), Some(position(1))));
        tokio::time::sleep(LIFETIME.saturating_sub(TIMEOUT)).await;
        assert_eq!(get().await, Some(position(1)));
        tokio::time::sleep(TIMEOUT).await;
        assert_eq!(get().await, Some(position(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_hangs_delays_one_list_a_second_and_not_for_long() {
        let end = RecentLogEnd::default();
        let begun = Instant::now();
        let get = || end.get_or_read(pending);
        assert_eq!(tokio::join!(get(), get()), (None, None));
        assert_eq!(begun.elapsed(), TIMEOUT);
        tokio::time::sleep(LIFETIME).await;
        assert_eq!(end.get_or_read(|| async { Ok(Some(position(1))) }).await, Some(position(1)));
    }
}
