//! The tail of the log of changes: the newest entries in memory, and the streams that wait for more.
//!
//! Hints bring new entries within milliseconds, but may be lost. So the tail takes a hint only if it is the next entry, and
//! otherwise reads the log, which it also does each second.

use std::{
    cmp::Ordering::{Equal, Greater, Less},
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use contracts::{Change, EventPosition, Hint, LogEntry, Timestamp, UserId};
use tokio::sync::{Notify, Semaphore, SemaphorePermit, watch};
use uuid::Uuid;

pub(super) use super::memory::Place;
use super::{memory::Memory, metrics::Metrics, request::Follows};

/// Maximum number of changes that a scan looks at before others have their turn.
const MAX_SCANNED: usize = 8_192;

/// Number of changes that end a scan.
const ENOUGH: usize = 64;

/// Maximum number of streams that read the log at a time, of which there may be thousands when a replica has stopped.
const MAX_CATCHING_UP: usize = 6;

/// First entry that a stream wants if it wants none.
const NOTHING: u64 = u64::MAX;

/// The tail of one broadcaster.
#[derive(Debug)]
pub(crate) struct Tail {
    state: Mutex<State>,
    /// Notified when the log must be read.
    pub(super) behind: Notify,
    /// Set while the tail follows the log.
    up: watch::Sender<bool>,
    catching_up: Semaphore,
    pub(crate) metrics: Metrics,
}

#[derive(Debug, Default)]
struct State {
    /// `None` before the log was read for the first time.
    log: Option<Log>,
    /// The streams that follow a user.
    waiting: HashMap<UserId, Vec<Arc<Waiting>>>,
    /// Those that follow everybody.
    waiting_for_all: Vec<Arc<Waiting>>,
}

/// Which log a stream follows: after a backup was restored, it is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LogId {
    pub(super) epoch: Uuid,
    /// Number of logs that this tail followed before.
    number: u64,
}

/// The log as far as the tail knows it.
#[derive(Debug)]
struct Log {
    id: LogId,
    /// The newest entry's number, 0 without any, and the append that wrote it.
    newest: (u64, Uuid),
    memory: Memory,
}

/// A stream as the tail knows it.
#[derive(Debug)]
pub(super) struct Waiting {
    follows: Follows,
    /// Number of the first entry that may have a change for the stream. The tail's lock guards it.
    first: AtomicU64,
    pub(super) woken: Notify,
}

/// A change that a stream wants, and the position behind it.
#[derive(Clone, Debug)]
pub(super) struct Due {
    pub(super) change: Change,
    pub(super) position: EventPosition,
}

/// Result of a scan of the memory.
#[derive(Debug)]
pub(super) enum Scan {
    /// Changes that the stream wants, if any, up to its new place. There may be more.
    Found(Vec<Due>),
    /// The stream has everything.
    AtEnd(EventPosition),
    /// The client was at a replica that has read more of the log. What comes up to the place, it has.
    Ahead,
    /// The place is no longer in memory: the log has to be read, at least up to this entry.
    ReadLog { newest: u64 },
    /// The log is another one. The stream continues at its end.
    OtherLog { log: LogId, end: EventPosition },
}

impl Tail {
    pub(crate) fn new() -> Arc<Self> {
        let (up, behind) = (watch::Sender::new(false), Notify::new());
        let catching_up = Semaphore::new(MAX_CATCHING_UP);
        let metrics = Metrics::new();
        Arc::new(Self { state: Mutex::default(), behind, up, catching_up, metrics })
    }

    /// Returns whether the tail follows the log.
    pub(crate) fn up(&self) -> watch::Receiver<bool> {
        self.up.subscribe()
    }

    /// Takes a hint. Must not wait, and must not trust it: hints come late, twice, or not at all.
    pub(crate) fn hint(&self, hint: Hint) {
        let mut state = self.state();
        let Some(log) = &state.log else { return };
        if log.id.epoch != hint.epoch || hint.entry.seq > log.newest.0 + 1 {
            self.behind.notify_one();
        } else if hint.entry.seq == log.newest.0 + 1 {
            self.take(&mut state, hint.entry);
        }
    }

    /// Takes entries that were read from the log. Returns false at a hole between them, which only a restored backup leaves.
    pub(super) fn take_read(&self, log: LogId, entries: Vec<LogEntry>) -> bool {
        let mut state = self.state();
        for entry in entries {
            let Some(next) = state.log.as_ref().filter(|it| it.id == log) else { return true };
            match entry.seq.cmp(&(next.newest.0 + 1)) {
                Less => {}
                Equal => self.take(&mut state, entry),
                Greater => return false,
            }
        }
        true
    }

    /// Takes the next entry, and wakes the streams that want it.
    fn take(&self, state: &mut State, entry: LogEntry) {
        let Some(log) = &mut state.log else { return };
        self.metrics.lag.record(entry.at.elapsed_until(Timestamp::now()));
        log.newest = (entry.seq, entry.append);
        for change in &entry.changes {
            let waiting = change.users().filter_map(|user| state.waiting.get(user)).flatten();
            for waiting in waiting.filter(|it| it.follows.wants(change)) {
                waiting.want(entry.seq);
            }
        }
        for waiting in &state.waiting_for_all {
            waiting.want(entry.seq);
        }
        log.memory.push(Arc::new(entry));
    }

    /// Begins to follow a log, from these newest entries on. Streams that followed another one start over.
    pub(crate) fn follow_log(&self, epoch: Uuid, newest: (u64, Uuid), entries: Vec<LogEntry>) {
        let mut memory = Memory::default();
        for entry in entries {
            memory.push(Arc::new(entry));
        }
        let mut state = self.state();
        let number = state.log.as_ref().map_or(0, |before| before.id.number + 1);
        state.log = Some(Log { id: LogId { epoch, number }, newest, memory });
        for waiting in state.waiting.values().flatten().chain(&state.waiting_for_all) {
            waiting.woken.notify_one();
        }
        drop(state);
        self.set_up(true);
    }

    /// Notes whether the log can be read.
    pub(super) fn set_up(&self, up: bool) {
        self.up.send_if_modified(|before| std::mem::replace(before, up) != up);
    }

    /// Returns the log that the tail follows, and its newest entry.
    pub(super) fn followed(&self) -> Option<(LogId, (u64, Uuid))> {
        self.state().log.as_ref().map(|log| (log.id, log.newest))
    }

    /// Registers a stream, which has everything so far. Returns `None` before the log was read.
    pub(super) fn register(
        &self,
        follows: Follows,
    ) -> Option<(Arc<Waiting>, LogId, EventPosition)> {
        let mut state = self.state();
        let log = state.log.as_ref()?;
        let (id, end) = (log.id, log.end());
        let user = follows.user().cloned();
        let (first, woken) = (AtomicU64::new(NOTHING), Notify::new());
        let waiting = Arc::new(Waiting { follows, first, woken });
        let others = match user {
            Some(user) => state.waiting.entry(user).or_default(),
            None => &mut state.waiting_for_all,
        };
        others.push(Arc::clone(&waiting));
        Some((waiting, id, end))
    }

    /// Forgets a stream.
    pub(super) fn unregister(&self, waiting: &Arc<Waiting>) {
        let mut state = self.state();
        let is_other = |other: &Arc<Waiting>| !Arc::ptr_eq(other, waiting);
        let Some(user) = waiting.follows.user() else {
            return state.waiting_for_all.retain(is_other);
        };
        let Some(of_user) = state.waiting.get_mut(user) else { return };
        of_user.retain(is_other);
        if of_user.is_empty() {
            state.waiting.remove(user);
        }
    }

    /// Makes the next scan of a stream begin at this place.
    pub(super) fn resume_at(&self, waiting: &Waiting, place: Place) {
        let _state = self.state();
        waiting.want(place.seq);
    }

    /// Moves a stream's place to the end, and returns its position.
    pub(super) fn to_end(&self, waiting: &Waiting, place: &mut Place) -> Option<EventPosition> {
        let state = self.state();
        let log = state.log.as_ref()?;
        *place = log.after_all();
        waiting.first.store(NOTHING, Ordering::Relaxed);
        Some(log.end())
    }

    /// Looks for changes that a stream wants from `place` on, and moves that on.
    pub(super) fn scan(&self, waiting: &Waiting, followed: LogId, place: &mut Place) -> Scan {
        let state = self.state();
        // Streams register after the log was read.
        let Some(log) = &state.log else { return Scan::Found(Vec::new()) };
        if log.id != followed {
            *place = log.after_all();
            waiting.first.store(NOTHING, Ordering::Relaxed);
            return Scan::OtherLog { log: log.id, end: log.end() };
        }
        let first = Place { seq: waiting.first.load(Ordering::Relaxed), index: 0 };
        // Nothing between the place and the first entry is wanted.
        *place = (*place).max(first.min(log.after_all()));
        if *place >= log.after_all() {
            waiting.first.store(NOTHING, Ordering::Relaxed);
            let is_ahead = *place > log.after_all();
            return if is_ahead { Scan::Ahead } else { Scan::AtEnd(log.end()) };
        }
        if !log.memory.covers(place.seq) {
            return Scan::ReadLog { newest: log.newest.0 };
        }
        let (mut found, mut scanned, mut next) = (Vec::new(), 0, None);
        for (at, entry, change) in log.memory.changes_for(&waiting.follows, *place) {
            if scanned >= MAX_SCANNED || found.len() >= ENOUGH {
                next = Some(at);
                break;
            }
            scanned += 1;
            if waiting.follows.wants(change) {
                let (epoch, index) = (followed.epoch, at.index + 1);
                let position = EventPosition::within(epoch, entry.seq, entry.append, index);
                found.push(Due { change: change.clone(), position });
            }
        }
        *place = next.unwrap_or(log.after_all());
        waiting.first.store(next.map_or(NOTHING, |next| next.seq), Ordering::Relaxed);
        Scan::Found(found)
    }

    /// Returns true if everything from this place on is in memory.
    pub(super) fn has(&self, followed: LogId, place: Place) -> bool {
        let state = self.state();
        let log = state.log.as_ref().filter(|log| log.id == followed);
        log.is_some_and(|log| place >= log.after_all() || log.memory.covers(place.seq))
    }

    #[cfg(test)]
    pub(crate) fn has_waiting(&self, user: &UserId) -> bool {
        self.state().waiting.contains_key(user)
    }

    /// Returns the append of an entry that is in memory.
    pub(super) fn append_of(&self, followed: LogId, seq: u64) -> Option<Uuid> {
        let state = self.state();
        let log = state.log.as_ref().filter(|log| log.id == followed)?;
        if log.newest.0 == seq {
            return Some(log.newest.1);
        }
        log.memory.get(seq).map(|entry| entry.append)
    }

    /// Returns true if more than `max` changes from `place` on are wanted; `None` if not all of them are in memory. Others
    /// have their turn in between.
    pub(super) fn has_more(
        &self,
        follows: &Follows,
        followed: LogId,
        mut place: Place,
        max: usize,
    ) -> Option<bool> {
        let mut count = 0;
        loop {
            let state = self.state();
            let log = state.log.as_ref().filter(|log| log.id == followed)?;
            if place >= log.after_all() {
                return Some(false);
            }
            if !log.memory.covers(place.seq) {
                return None;
            }
            let mut changes = log.memory.changes_for(follows, place).take(MAX_SCANNED);
            let mut last = None;
            for (at, _, change) in changes.by_ref() {
                last = Some(at);
                count += usize::from(follows.wants(change));
                if count > max {
                    return Some(true);
                }
            }
            let Some(Place { seq, index }) = last else { return Some(false) };
            place = Place { seq, index: index.saturating_add(1) };
        }
    }

    /// Waits for a turn to read the log. The tail itself and the broadcast need MongoDB, too.
    pub(super) async fn catching_up(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.catching_up.acquire().await.ok()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock can panic half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    /// Returns the position behind all entries.
    fn end(&self) -> EventPosition {
        match self.newest {
            (0, _) => EventPosition::start(self.id.epoch),
            (seq, append) => EventPosition::behind(self.id.epoch, seq, append),
        }
    }

    fn after_all(&self) -> Place {
        Place { seq: self.newest.0 + 1, index: 0 }
    }
}

impl Place {
    /// Returns the place behind a position.
    pub(super) fn behind(position: EventPosition) -> Self {
        match position.index {
            u16::MAX => Self { seq: position.seq.saturating_add(1), index: 0 },
            index => Self { seq: position.seq, index },
        }
    }
}

impl Waiting {
    pub(super) fn follows(&self) -> &Follows {
        &self.follows
    }

    fn want(&self, seq: u64) {
        self.first.fetch_min(seq, Ordering::Relaxed);
        self.woken.notify_one();
    }
}

#[cfg(test)]
mod tests;
