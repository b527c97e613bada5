//! Causal reads: no read of this process is older than what the process has seen.
//!
//! Majority reads alone can go back in time when the primary changes: the new one has every confirmed write, but may not
//! know yet that it is confirmed, and a deposed one that does not know of its successor answers, too (SERVER-53813). So a
//! process keeps the latest time that MongoDB or another process has told it, and its reads wait until the server has it.

use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use contracts::ClusterTime;
use futures_util::TryStreamExt;
use mongodb::{
    Client, ClientSession, Collection,
    action::Find,
    bson::{RawDocumentBuf, Timestamp},
    error::{Error, ErrorKind, Result},
};

use crate::{Store, StoreError};

/// Time after which a time that no server has is given up. Longer than a deposed primary takes itself for one: 10 s by
/// MongoDB's default.
const PATIENCE: Duration = Duration::from_secs(15);

/// MongoDB's code for a read after a time that its own clock has not reached.
const INVALID_OPTIONS: i32 = 72;

/// MongoDB's codes for a read after a time of a server without a replica set, which has no times: by version.
const WITHOUT_REPLICA_SET: [i32; 2] = [20, 123];

/// The latest time that this process has seen. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct CausalClock(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    seen: Option<ClusterTime>,
    /// Since when servers say that they have not reached it.
    unknown_since: Option<Instant>,
}

/// A session whose reads see what this process has seen. At its end, the process has seen what its operations have.
pub(crate) struct CausalSession {
    session: ClientSession,
    /// Time that the process had seen at its beginning.
    begun: Option<ClusterTime>,
    deadline: Instant,
    clock: CausalClock,
}

impl CausalClock {
    pub(crate) fn seen(&self) -> Option<ClusterTime> {
        self.lock().seen
    }

    pub(crate) fn advance(&self, time: ClusterTime) {
        let mut state = self.lock();
        if state.seen < Some(time) {
            *state = State { seen: Some(time), unknown_since: None };
        }
    }

    async fn session(&self, client: &Client, limit: Duration) -> Result<CausalSession> {
        let deadline = Instant::now() + limit;
        let mut session = client.start_session().causal_consistency(true).await?;
        let begun = self.seen();
        if let Some(time) = begun {
            let (time, increment) = (time.seconds(), time.counter());
            session.advance_operation_time(Timestamp { time, increment });
        }
        Ok(CausalSession { session, begun, deadline, clock: self.clone() })
    }

    /// Notes that a server has reached the time.
    fn known(&self) {
        self.lock().unknown_since = None;
    }

    /// Notes that a server has not reached this time by now. Returns true if it is given up.
    fn unknown(&self, time: ClusterTime, now: Instant) -> bool {
        let mut state = self.lock();
        if state.seen != Some(time) {
            return false;
        }
        let since = *state.unknown_since.get_or_insert(now);
        let give_up = now.duration_since(since) >= PATIENCE;
        if give_up {
            *state = State::default();
        }
        give_up
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock can panic half way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Makes all later reads see what was written until this time. It comes from another process.
    pub fn advance(&self, time: ClusterTime) {
        self.clock.advance(time);
    }

    /// Returns the latest time that this process has seen; `None` before the first operation, and for a server without a
    /// replica set, which has no times.
    #[must_use]
    pub fn cluster_time(&self) -> Option<ClusterTime> {
        self.clock.seen()
    }

    /// Starts a session for operations that are more than a read. It is awaited where they run.
    pub(crate) fn session(&self) -> impl Future<Output = Result<CausalSession>> + Send + use<> {
        let (clock, client) = (self.clock.clone(), self.database.client().clone());
        let limit = self.operation_timeout;
        async move { clock.session(&client, limit).await }
    }

    /// Returns the documents that a query finds. It sees what this process has seen, and ends in time on the server, too.
    pub(crate) async fn find_all<F>(
        &self,
        collection: &Collection<RawDocumentBuf>,
        find: F,
    ) -> std::result::Result<Vec<RawDocumentBuf>, StoreError>
    where
        F: for<'a> Fn(&'a Collection<RawDocumentBuf>) -> Find<'a, RawDocumentBuf>,
        F: Send + Sync + 'static,
    {
        let (session, collection) = (self.session(), collection.clone());
        self.run(async move { session.await?.find_all(&collection, find).await }).await
    }
}

impl CausalSession {
    /// Does what [`Store::find_all`] does, after the other operations of the session.
    pub(crate) async fn find_all<F>(
        &mut self,
        collection: &Collection<RawDocumentBuf>,
        find: F,
    ) -> Result<Vec<RawDocumentBuf>>
    where
        F: for<'a> Fn(&'a Collection<RawDocumentBuf>) -> Find<'a, RawDocumentBuf>,
        F: Send + Sync,
    {
        let deadline = self.deadline;
        let read = async |session: &mut ClientSession| {
            let left = deadline.saturating_duration_since(Instant::now());
            let find = find(collection).max_time(left.max(Duration::from_millis(1)));
            let mut found = find.session(&mut *session).await?;
            found.stream(session).try_collect::<Vec<_>>().await
        };
        let found = read(&mut self.session).await;
        let Some(time) = self.begun else { return found };
        match found {
            Ok(_) => self.clock.known(),
            Err(ref error) if is_unknown_time(error) => {
                // Through one mongos, times of another are not known before a shard has told them.
                let mut unbound = self.session.client().start_session().await?;
                let unbound = read(&mut unbound).await?;
                let again = read(&mut self.session).await;
                let is_unknown = again.as_ref().is_err_and(is_unknown_time);
                if is_unknown && self.clock.unknown(time, Instant::now()) {
                    tracing::warn!(
                        "MongoDB does not know the time of the latest write that this process has seen; was it replaced by \
                         another deployment? Reads no longer wait for that time"
                    );
                    return Ok(unbound);
                }
                return again;
            }
            Err(_) => {}
        }
        found
    }
}

impl Deref for CausalSession {
    type Target = ClientSession;

    fn deref(&self) -> &Self::Target {
        &self.session
    }
}

impl DerefMut for CausalSession {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.session
    }
}

impl Drop for CausalSession {
    fn drop(&mut self) {
        let seen = self.session.operation_time();
        let seen = seen.map(|seen| ClusterTime::new(seen.time, seen.increment));
        // Where the server has no more than the session began with, the time may have been given up meanwhile.
        if let Some(seen) = seen
            && self.begun < Some(seen)
        {
            self.clock.advance(seen);
        }
    }
}

/// Tells that a server refused a read because its own clock is before the time to read after, or because it has none.
fn is_unknown_time(error: &Error) -> bool {
    matches!(
        &*error.kind,
        ErrorKind::Command(command)
            if command.message.contains("afterClusterTime")
                && (command.code == INVALID_OPTIONS || WITHOUT_REPLICA_SET.contains(&command.code))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_never_goes_back() {
        let clock = CausalClock::default();
        assert_eq!(clock.seen(), None);
        let (early, late) = (ClusterTime::new(1, 9), ClusterTime::new(2, 0));
        clock.advance(late);
        clock.advance(early);
        assert_eq!(clock.seen(), Some(late));
    }

    #[test]
    fn a_time_that_no_server_has_is_given_up_in_the_end() {
        let (early, late) = (ClusterTime::new(1, 0), ClusterTime::new(2, 0));
        let begun = Instant::now();
        let clock = CausalClock::default();
        clock.advance(early);
        assert!(!clock.unknown(early, begun));
        // Some server has it.
        clock.known();
        assert!(!clock.unknown(early, begun + PATIENCE));
        // A later time has its own patience.
        clock.advance(late);
        assert!(!clock.unknown(early, begun + 2 * PATIENCE));
        assert!(!clock.unknown(late, begun + 2 * PATIENCE));
        assert!(clock.unknown(late, begun + 3 * PATIENCE));
        assert_eq!(clock.seen(), None);
    }
}
