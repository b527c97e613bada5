//! The limit of writes in progress at the same time. At the limit, a write waits a while for its turn.
//!
//! A refusal at once invites the next request at once: with thousands of connections, most of the gateway's
//! processor time would go into refusals, and what it stores would fall to a half or less. A connection that waits
//! sends nothing.

use std::time::Duration;

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

/// Maximum time for which a write waits for its turn.
const MAX_WAIT: Duration = Duration::from_millis(800);

/// A limit. Turns are given in the order in which they are asked for.
pub(crate) struct Limit(Semaphore);

impl Limit {
    /// Allows `turns` at the same time.
    pub(crate) fn new(turns: usize) -> Self {
        Self(Semaphore::new(turns))
    }

    /// Waits for a turn, which lasts until it is dropped. Returns `None` if none comes in time.
    pub(crate) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        timeout(MAX_WAIT, self.0.acquire()).await.ok()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_turn_is_waited_for_in_order_and_not_for_ever() {
        let limit = Limit::new(1);
        let first = limit.turn().await.unwrap();
        let begun = Instant::now();
        assert!(limit.turn().await.is_none());
        assert_eq!(begun.elapsed(), MAX_WAIT);
        let order = std::sync::Mutex::new(Vec::new());
        let take = async |name| {
            let turn = limit.turn().await.unwrap();
            order.lock().unwrap().push(name);
            drop(turn);
        };
        let release = async { drop(first) };
        tokio::join!(take("second"), take("third"), release);
        assert_eq!(*order.lock().unwrap(), ["second", "third"]);
    }
}
