//! The tail of the log of changes: the newest entries in memory, and the streams that wait for more.
//!
//! Hints bring new entries within milliseconds, but may be lost. So the tail takes a hint only if it is the next entry, and
//! otherwise reads the log, which it also does each second without a hint.

use std::{
    cmp::Ordering::{Equal, Greater, Less},
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use contracts::{Change, EventPosition, Hint, LogEntry, Timestamp, UserId};
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use super::{memory::Memory, metrics::Metrics, request::Follows};

/// Maximum number of changes that a scan looks at before others have their turn, about a tenth of a millisecond.
const MAX_SCANNED: usize = 8_192;

/// Number of changes that end a scan, at the end of an entry.
const ENOUGH: usize = 64;

/// What a waiting stream wants nothing from.
const NOTHING: u64 = u64::MAX;

/// The tail of one broadcaster.
#[derive(Debug)]
pub(crate) struct Tail {
    state: Mutex<State>,
    /// Notified when the log must be read.
    pub(super) behind: Notify,
    /// Set while the tail follows the log.
    up: watch::Sender<bool>,
    pub(crate) metrics: Metrics,
}

#[derive(Debug, Default)]
struct State {
    /// `None` before the log was read for the first time.
    log: Option<Log>,
    waiting: HashMap<UserId, Vec<Arc<Waiting>>>,
    /// Number of entries that were taken from hints.
    hints: u64,
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

/// A place in the log: the next change to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) seq: u64,
    pub(super) index: u16,
}

/// A change that a stream wants, and the position behind it.
#[derive(Clone, Debug)]
pub(super) struct Due {
    pub(super) change: Change,
    pub(super) position: EventPosition,
}

/// What a scan of the memory found.
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
        Arc::new(Self { state: Mutex::default(), behind, up, metrics: Metrics::new() })
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
            state.hints += 1;
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
            let Change { from_user_id: from, to_user_id: to, .. } = change;
            let to = (from != to).then_some(to);
            let waiting = [Some(from), to].into_iter().flatten();
            let waiting = waiting.filter_map(|user| state.waiting.get(user)).flatten();
            for waiting in waiting.filter(|it| it.follows.wants(change)) {
                waiting.want(entry.seq);
            }
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
        for waiting in state.waiting.values().flatten() {
            waiting.woken.notify_one();
        }
        drop(state);
        self.up.send_replace(true);
    }

    /// Notes that the log was read.
    pub(super) fn found_log(&self) {
        self.up.send_if_modified(|up| !std::mem::replace(up, true));
    }

    /// Notes that the log cannot be read.
    pub(super) fn lost_log(&self) {
        self.up.send_replace(false);
    }

    /// Returns the log that the tail follows and its newest entry, and how many hints it has taken.
    pub(super) fn followed(&self) -> Option<(LogId, (u64, Uuid), u64)> {
        let state = self.state();
        state.log.as_ref().map(|log| (log.id, log.newest, state.hints))
    }

    /// Registers a stream, which has everything so far. Returns `None` before the log was read.
    pub(super) fn register(
        &self,
        follows: Follows,
    ) -> Option<(Arc<Waiting>, LogId, EventPosition)> {
        let mut state = self.state();
        let log = state.log.as_ref()?;
        let (id, end) = (log.id, log.end());
        let user = follows.user.clone();
        let (first, woken) = (AtomicU64::new(NOTHING), Notify::new());
        let waiting = Arc::new(Waiting { follows, first, woken });
        state.waiting.entry(user).or_default().push(Arc::clone(&waiting));
        Some((waiting, id, end))
    }

    /// Forgets a stream.
    pub(super) fn unregister(&self, waiting: &Arc<Waiting>) {
        let mut state = self.state();
        let user = &waiting.follows.user;
        let Some(of_user) = state.waiting.get_mut(user) else { return };
        of_user.retain(|other| !Arc::ptr_eq(other, waiting));
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
        let (mut found, mut scanned) = (Vec::new(), 0);
        for entry in log.memory.from(place.seq) {
            if scanned >= MAX_SCANNED || found.len() >= ENOUGH {
                break;
            }
            let skipped = if entry.seq == place.seq { place.index } else { 0 };
            for (change, index) in entry.changes.iter().zip(1..).skip(skipped.into()) {
                if waiting.follows.wants(change) {
                    let position =
                        EventPosition::within(followed.epoch, entry.seq, entry.append, index);
                    found.push(Due { change: change.clone(), position });
                }
            }
            scanned += entry.changes.len();
            *place = Place { seq: entry.seq + 1, index: 0 };
        }
        let first = if *place >= log.after_all() { NOTHING } else { place.seq };
        waiting.first.store(first, Ordering::Relaxed);
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

    /// Returns the number of changes from `place` on that are wanted, `max` at most; `None` if they are not all in memory.
    pub(super) fn count(&self, follows: &Follows, place: Place, max: usize) -> Option<usize> {
        let state = self.state();
        let log = state.log.as_ref()?;
        if place >= log.after_all() {
            return Some(0);
        }
        if !log.memory.covers(place.seq) {
            return None;
        }
        let changes = log.memory.from(place.seq).flat_map(|entry| &entry.changes);
        Some(changes.filter(|change| follows.wants(change)).take(max).count())
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
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::events::tests::{entry, user};

    const EPOCH: Uuid = Uuid::from_u128(1 << 120);

    /// A tail that follows a log with these entries, and a stream of Alice's.
    struct Fixture {
        tail: Arc<Tail>,
        waiting: Arc<Waiting>,
        log: LogId,
        place: Place,
    }

    impl Fixture {
        fn new(entries: Vec<LogEntry>) -> Self {
            let tail = Tail::new();
            let newest = entries.last().map_or((0, Uuid::nil()), |it| (it.seq, it.append));
            tail.follow_log(EPOCH, newest, entries);
            let follows = Follows { user: user("alice"), with: None };
            let (waiting, log, end) = tail.register(follows).unwrap();
            let place = Place::behind(end);
            Self { tail, waiting, log, place }
        }

        fn hint(&self, entry: &LogEntry) {
            self.tail.hint(Hint { epoch: EPOCH, entry: entry.clone(), cluster_time: None });
        }

        fn scan(&mut self) -> Scan {
            self.tail.scan(&self.waiting, self.log, &mut self.place)
        }

        /// Returns the numbers of the entries in which changes are due, up to the end.
        fn due(&mut self) -> Vec<(u64, u16)> {
            let mut all = Vec::new();
            loop {
                match self.scan() {
                    Scan::Found(due) => all.extend(due.into_iter().map(|due| due.position)),
                    Scan::AtEnd(_) | Scan::Ahead => break,
                    other => panic!("{other:?}"),
                }
            }
            all.into_iter().map(|position| (position.seq, position.index)).collect()
        }

        fn is_woken(&self) -> bool {
            self.waiting.woken.notified().now_or_never().is_some()
        }

        fn must_read(&self) -> bool {
            self.tail.behind.notified().now_or_never().is_some()
        }
    }

    #[test]
    fn a_stream_gets_its_changes_and_is_not_woken_for_those_of_others() {
        let mut fixture = Fixture::new(vec![entry(1, &[("alice", "bob")])]);
        assert_eq!(fixture.due(), [], "it was logged before");
        fixture.hint(&entry(2, &[("bob", "carol"), ("dan", "dan")]));
        assert!(!fixture.is_woken());
        fixture.hint(&entry(3, &[("bob", "carol"), ("bob", "alice"), ("alice", "alice")]));
        fixture.hint(&entry(4, &[("alice", "carol")]));
        assert!(fixture.is_woken());
        assert_eq!(fixture.due(), [(3, 2), (3, 3), (4, 1)]);
        assert_eq!(fixture.due(), []);
        let Scan::AtEnd(end) = fixture.scan() else { panic!("there is more") };
        assert_eq!((end.seq, end.index), (4, u16::MAX));
    }

    #[test]
    fn of_a_conversation_both_directions_are_wanted() {
        let follows = Follows { user: user("alice"), with: Some(user("bob")) };
        let wants = |from, to| follows.wants(&crate::events::tests::change(from, to));
        assert!(wants("alice", "bob") && wants("bob", "alice"));
        assert!(!wants("alice", "carol") && !wants("bob", "carol") && !wants("alice", "alice"));
    }

    #[test]
    fn repeated_and_older_hints_are_dropped() {
        let mut fixture = Fixture::new(vec![entry(1, &[("alice", "bob")])]);
        let next = entry(2, &[("alice", "bob")]);
        for hint in [&next, &next, &entry(1, &[("alice", "bob")])] {
            fixture.hint(hint);
        }
        assert_eq!(fixture.due(), [(2, 1)]);
        assert!(!fixture.must_read());
    }

    #[test]
    fn behind_a_hole_the_log_is_read_and_nothing_is_taken_before() {
        let mut fixture = Fixture::new(Vec::new());
        let entries: Vec<LogEntry> = (1..=4).map(|seq| entry(seq, &[("alice", "bob")])).collect();
        fixture.hint(&entries[0]);
        assert!(!fixture.must_read());
        fixture.hint(&entries[2]);
        assert!(fixture.must_read());
        assert_eq!(fixture.due(), [(1, 1)]);
        // The read overlaps with what comes meanwhile.
        fixture.hint(&entries[1]);
        assert!(!fixture.tail.take_read(fixture.log, vec![entries[3].clone()]), "there is a hole");
        assert!(fixture.tail.take_read(fixture.log, entries.clone()));
        fixture.hint(&entries[3]);
        assert_eq!(fixture.due(), [(2, 1), (3, 1), (4, 1)]);
    }

    #[test]
    fn a_stream_that_is_ahead_of_the_tail_does_not_go_back() {
        let mut fixture = Fixture::new(vec![entry(1, &[("alice", "bob")])]);
        fixture.place = Place { seq: 3, index: 1 };
        for seq in 2..=3 {
            assert!(matches!(fixture.scan(), Scan::Ahead), "entry {seq}");
            fixture.hint(&entry(seq, &[("alice", "bob"), ("alice", "bob")]));
        }
        assert_eq!(fixture.due(), [(3, 2)]);
        assert!(matches!(fixture.scan(), Scan::AtEnd(_)));
    }

    #[test]
    fn a_hint_of_another_log_is_not_taken() {
        let mut fixture = Fixture::new(Vec::new());
        let entry = entry(1, &[("alice", "bob")]);
        fixture.tail.hint(Hint { epoch: Uuid::from_u128(2 << 120), entry, cluster_time: None });
        assert!(fixture.must_read());
        assert_eq!(fixture.due(), []);
    }

    #[test]
    fn every_stream_starts_over_in_another_log_even_of_the_same_epoch() {
        for epoch in [EPOCH, Uuid::from_u128(2 << 120)] {
            let mut fixture = Fixture::new(vec![entry(1, &[]), entry(2, &[])]);
            fixture.hint(&entry(3, &[("alice", "bob")]));
            let newest = entry(1, &[("alice", "bob")]);
            fixture.tail.follow_log(epoch, (1, newest.append), vec![newest.clone()]);
            assert!(fixture.is_woken());
            let Scan::OtherLog { log, end } = fixture.scan() else { panic!("it is the same log") };
            assert!(end.is_of_epoch(epoch) && end.is_of_append(newest.append));
            // A read of the log before comes too late.
            fixture.tail.take_read(fixture.log, vec![entry(2, &[("alice", "bob")])]);
            fixture.log = log;
            assert_eq!(fixture.due(), []);
        }
    }

    #[test]
    fn what_is_no_longer_in_memory_is_read_from_the_log() {
        let mut fixture = Fixture::new(Vec::new());
        let large = vec![("bob", "carol"); 30_000];
        fixture.hint(&entry(1, &[("alice", "bob")]));
        for seq in 2..=4 {
            fixture.hint(&entry(seq, &large));
        }
        let Scan::ReadLog { newest: 4 } = fixture.scan() else { panic!("it is in memory") };
        assert_eq!(fixture.place, Place { seq: 1, index: 0 });
        // After a read that saw entry 4.
        fixture.place = Place { seq: 5, index: 0 };
        fixture.hint(&entry(5, &[("bob", "alice")]));
        assert_eq!(fixture.due(), [(5, 1)]);
    }

    #[test]
    fn a_scan_of_much_gives_way_to_others_and_goes_on() {
        let mut fixture = Fixture::new(Vec::new());
        fixture.hint(&entry(1, &[("alice", "bob")]));
        fixture.hint(&entry(2, &vec![("bob", "carol"); MAX_SCANNED]));
        fixture.hint(&entry(3, &[("alice", "bob")]));
        let Scan::Found(due) = fixture.scan() else { panic!("it is not in memory") };
        assert_eq!(due.len(), 1);
        assert_eq!(fixture.due(), [(3, 1)]);
    }

    #[test]
    fn a_stream_that_ended_is_forgotten() {
        let fixture = Fixture::new(Vec::new());
        fixture.tail.unregister(&fixture.waiting);
        assert!(fixture.tail.state().waiting.is_empty());
    }
}
