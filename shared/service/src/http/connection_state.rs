//! The state of one connection: the service counts its requests here, the connection's task and the connection limit
//! read them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::settings::ListenerSettings;

#[derive(Debug)]
pub(super) struct ConnectionState {
    accepted: Instant,
    begun: AtomicU64,
    ended: AtomicU64,
    /// End of the last response, in milliseconds since `accepted`.
    last_end_ms: AtomicU64,
    write_timeout_ms: AtomicU64,
    /// Set once the connection belongs to another protocol.
    pub(super) upgraded: AtomicBool,
    /// Set once the connection does not count any more.
    pub(super) closed: AtomicBool,
    /// Notified when the connection must close to make room for another one.
    pub(super) eviction: Notify,
}

/// A request in progress: from its headers to the end of its response's body.
#[derive(Debug)]
pub(super) struct RequestGuard(Arc<ConnectionState>);

impl ConnectionState {
    pub(super) fn new(write_timeout: Duration) -> Self {
        let state = Self {
            accepted: Instant::now(),
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            last_end_ms: AtomicU64::new(0),
            write_timeout_ms: AtomicU64::new(0),
            upgraded: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            eviction: Notify::new(),
        };
        state.set_write_timeout(write_timeout);
        state
    }

    pub(super) fn begin_request(self: &Arc<Self>) -> RequestGuard {
        self.begun.fetch_add(1, Ordering::Relaxed);
        RequestGuard(Arc::clone(self))
    }

    /// Returns the number of requests so far.
    pub(super) fn requests(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Returns true if no request is in progress.
    pub(super) fn is_idle(&self) -> bool {
        // In this order: a request that begins in between makes the connection busy, not idle.
        let ended = self.ended.load(Ordering::Acquire);
        ended == self.requests()
    }

    /// Returns when the connection has been idle for too long; `None` while a request is in progress.
    pub(super) fn idle_deadline(&self, settings: &ListenerSettings) -> Option<Instant> {
        if !self.is_idle() {
            return None;
        }
        if self.requests() == 0 {
            return Some(self.accepted + settings.first_request_timeout);
        }
        let idle_since = Duration::from_millis(self.last_end_ms.load(Ordering::Relaxed));
        Some(self.accepted + idle_since + settings.idle_timeout)
    }

    /// Returns the time since the connection was accepted.
    pub(super) fn age(&self) -> Duration {
        self.accepted.elapsed()
    }

    pub(super) fn write_timeout(&self) -> Duration {
        Duration::from_millis(self.write_timeout_ms.load(Ordering::Relaxed))
    }

    pub(super) fn set_write_timeout(&self, timeout: Duration) {
        self.write_timeout_ms.store(millis(timeout), Ordering::Relaxed);
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.last_end_ms.store(millis(self.0.age()), Ordering::Relaxed);
        self.0.ended.fetch_add(1, Ordering::Release);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
