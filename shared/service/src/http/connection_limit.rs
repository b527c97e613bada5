//! The limit of connections. When it is reached, the connection that has been idle for longest is evicted for the next
//! one: otherwise clients that send nothing would keep all others out, health checks included.

use std::{
    collections::VecDeque,
    pin::pin,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use tokio::{sync::Semaphore, time::timeout};

use super::connection_state::ConnectionState;

/// Time that an evicted connection has to close before another one is evicted, too. It may have a response to finish.
const EVICTION_TIME: Duration = Duration::from_millis(100);

pub(super) struct ConnectionLimit {
    free: Arc<Semaphore>,
    max_connections: usize,
    first_request_grace: Duration,
    /// The connections that can be evicted, roughly in the order of their last requests.
    candidates: Mutex<VecDeque<Candidate>>,
}

struct Candidate {
    /// Gone once the connection is closed.
    permit: Weak<ConnectionPermit>,
    /// Number of its requests when it was queued. If there have been more since, it goes to the end of the queue.
    requests: u64,
}

/// A connection's share of the limit.
pub(super) struct ConnectionPermit {
    connection: Arc<ConnectionState>,
}

impl ConnectionLimit {
    pub(super) fn new(max_connections: usize, first_request_grace: Duration) -> Self {
        Self {
            free: Arc::new(Semaphore::new(max_connections)),
            max_connections,
            first_request_grace,
            candidates: Mutex::default(),
        }
    }

    /// Waits for a permit, and evicts connections until there is one.
    pub(super) async fn acquire(&self, connection: Arc<ConnectionState>) -> Arc<ConnectionPermit> {
        let mut permit = pin!(Arc::clone(&self.free).acquire_owned());
        let mut wait = Duration::ZERO;
        let permit = loop {
            if let Ok(permit) = timeout(wait, permit.as_mut()).await {
                break permit;
            }
            wait = self.evict();
        };
        // The semaphore is never closed, so there always is a permit.
        connection.activity().permit = permit.ok();
        let permit = Arc::new(ConnectionPermit { connection });
        let mut candidates = self.candidates.lock().unwrap_or_else(PoisonError::into_inner);
        if candidates.len() >= 2 * self.max_connections {
            candidates.retain(|candidate| candidate.permit.strong_count() > 0);
        }
        candidates.push_back(Candidate { permit: Arc::downgrade(&permit), requests: 0 });
        permit
    }

    /// Evicts the connection that has been idle for longest; if all are busy, the first one, which closes after its
    /// response. Returns how long to wait before the next eviction.
    fn evict(&self) -> Duration {
        let mut candidates = self.candidates.lock().unwrap_or_else(PoisonError::into_inner);
        // The first round finds the connections without a request since they were queued, the second one all idle ones.
        for _ in 0..2 * candidates.len() {
            let Some(mut candidate) = candidates.pop_front() else { break };
            let Some(permit) = candidate.permit.upgrade() else { continue };
            let connection = &permit.connection;
            let activity = connection.activity();
            // Its end makes no room.
            if activity.permit.is_none() {
                continue;
            }
            if activity.requests != candidate.requests || !activity.is_idle() {
                candidate.requests = activity.requests;
                candidates.push_back(candidate);
                continue;
            }
            let grace_left = self.first_request_grace.saturating_sub(connection.accepted.elapsed());
            if activity.requests == 0 && !grace_left.is_zero() {
                candidates.push_front(candidate);
                return grace_left;
            }
            connection.eviction.notify_one();
            return EVICTION_TIME;
        }
        if let Some(busy) = candidates.pop_front().and_then(|busy| busy.permit.upgrade()) {
            busy.connection.eviction.notify_one();
        }
        EVICTION_TIME
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.connection.activity().permit = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Longer than anything here takes, for what must not hang.
    const LIMIT: Duration = Duration::from_secs(10);

    fn connection() -> Arc<ConnectionState> {
        Arc::new(ConnectionState::new(LIMIT))
    }

    async fn acquire(
        limit: &ConnectionLimit,
        connection: &Arc<ConnectionState>,
    ) -> Arc<ConnectionPermit> {
        timeout(LIMIT, limit.acquire(Arc::clone(connection))).await.expect("a permit in time")
    }

    /// Acquires a permit while the holder of `held` releases it once it is evicted.
    async fn acquire_from(
        limit: &ConnectionLimit,
        held: Arc<ConnectionPermit>,
        connection: &Arc<ConnectionState>,
    ) -> Arc<ConnectionPermit> {
        let evicted = Arc::clone(&held.connection);
        let release = async {
            timeout(LIMIT, evicted.eviction.notified()).await.expect("an eviction in time");
            drop(held);
        };
        tokio::join!(acquire(limit, connection), release).0
    }

    async fn is_evicted(connection: &ConnectionState) -> bool {
        timeout(Duration::ZERO, connection.eviction.notified()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn the_connection_that_has_been_idle_for_longest_is_evicted_and_no_other() {
        let limit = ConnectionLimit::new(3, Duration::ZERO);
        let (active, idle, young) = (connection(), connection(), connection());
        let active_permit = acquire(&limit, &active).await;
        let idle_permit = acquire(&limit, &idle).await;
        let _young_permit = acquire(&limit, &young).await;
        drop(active.begin_request());
        let next = connection();
        let _next_permit = acquire_from(&limit, idle_permit, &next).await;
        assert!(!is_evicted(&active).await, "it had a request");
        assert!(!is_evicted(&young).await, "one was enough");
        drop(active_permit);
        let _permit = acquire(&limit, &connection()).await;
        assert!(!is_evicted(&young).await, "a permit was free");
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_connection_is_evicted_only_if_no_other_is_idle() {
        let limit = ConnectionLimit::new(2, Duration::ZERO);
        let (busy, idle) = (connection(), connection());
        let busy_permit = acquire(&limit, &busy).await;
        let idle_permit = acquire(&limit, &idle).await;
        let _request = busy.begin_request();
        let next = connection();
        let _next_permit = acquire_from(&limit, idle_permit, &next).await;
        assert!(!is_evicted(&busy).await, "another one was idle");
        let _next_request = next.begin_request();
        let _permit = acquire_from(&limit, busy_permit, &connection()).await;
        assert!(!is_evicted(&next).await, "it was the second to be busy");
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_has_its_time_for_a_first_request() {
        let grace = Duration::from_secs(1);
        let limit = ConnectionLimit::new(1, grace);
        let new = connection();
        let permit = acquire(&limit, &new).await;
        let _permit = acquire_from(&limit, permit, &connection()).await;
        assert!(new.accepted.elapsed() >= grace);
    }

    #[tokio::test]
    async fn closed_connections_do_not_pile_up() {
        let limit = ConnectionLimit::new(2, Duration::ZERO);
        for _ in 0..100 {
            drop(acquire(&limit, &connection()).await);
        }
        assert!(limit.candidates.lock().unwrap().len() <= 4);
    }
}
