//! The state of one connection: the service counts its requests here, the connection's task and the connection limit
//! read them.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit},
    time::Instant,
};

use super::{settings::ListenerSettings, take_over::Taken};

#[derive(Debug)]
pub(super) struct ConnectionState {
    pub(super) accepted: Instant,
    /// Notified when the connection must close to make room for another one.
    pub(super) eviction: Notify,
    activity: Mutex<Activity>,
}

#[derive(Debug)]
pub(super) struct Activity {
    /// Number of requests so far.
    pub(super) requests: u64,
    in_progress: usize,
    /// End of the last response; before the first, the time of accepting.
    last_response: Instant,
    pub(super) write_timeout: Duration,
    /// True once the connection belongs to another protocol.
    pub(super) upgraded: bool,
    /// The connection's share of the limit, until it is given up.
    pub(super) permit: Option<OwnedSemaphorePermit>,
    /// Set once somebody takes the connection over.
    pub(super) taken: Option<Taken>,
}

/// A request in progress: from its headers to the end of its response's body.
#[derive(Debug)]
pub(super) struct RequestGuard(Arc<ConnectionState>);

impl ConnectionState {
    pub(super) fn new(write_timeout: Duration) -> Self {
        let accepted = Instant::now();
        let activity = Activity {
            requests: 0,
            in_progress: 0,
            last_response: accepted,
            write_timeout,
            upgraded: false,
            permit: None,
            taken: None,
        };
        Self { accepted, eviction: Notify::new(), activity: Mutex::new(activity) }
    }

    pub(super) fn activity(&self) -> MutexGuard<'_, Activity> {
        self.activity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin_request(self: &Arc<Self>) -> RequestGuard {
        let mut activity = self.activity();
        activity.requests += 1;
        activity.in_progress += 1;
        RequestGuard(Arc::clone(self))
    }

    pub(super) fn is_idle(&self) -> bool {
        self.activity().is_idle()
    }

    /// Returns when the connection has been idle for too long; `None` while a request is in progress.
    pub(super) fn idle_deadline(&self, settings: &ListenerSettings) -> Option<Instant> {
        let activity = self.activity();
        let timeout = match activity.requests {
            0 => settings.first_request_timeout,
            _ => settings.idle_timeout,
        };
        activity.is_idle().then(|| activity.last_response + timeout)
    }
}

impl Activity {
    pub(super) fn is_idle(&self) -> bool {
        self.in_progress == 0
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        let mut activity = self.0.activity();
        activity.in_progress -= 1;
        activity.last_response = Instant::now();
    }
}
