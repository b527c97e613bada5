//! Hints and scans.

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
        Self::following(Follows::User { user: user("alice"), with: None }, entries)
    }

    fn following(follows: Follows, entries: Vec<LogEntry>) -> Self {
        let tail = Tail::new();
        let newest = entries.last().map_or((0, Uuid::nil()), |it| (it.seq, it.append));
        tail.follow_log(EPOCH, newest, entries);
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
    let follows = Follows::User { user: user("alice"), with: Some(user("bob")) };
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
    fixture.hint(&entry(1, &vec![("alice", "bob"); ENOUGH + 1]));
    fixture.hint(&entry(2, &[("alice", "bob")]));
    let Scan::Found(due) = fixture.scan() else { panic!("it is not in memory") };
    assert_eq!(due.len(), ENOUGH);
    assert_eq!(fixture.due(), [(1, 65), (2, 1)]);
}

#[test]
fn a_stream_of_everybody_gets_every_change_once() {
    let mut fixture = Fixture::following(Follows::Everybody, vec![entry(1, &[("alice", "bob")])]);
    fixture.hint(&entry(2, &[("bob", "carol"), ("dan", "dan")]));
    assert!(fixture.is_woken());
    fixture.hint(&entry(3, &[("alice", "bob")]));
    assert_eq!(fixture.due(), [(2, 1), (2, 2), (3, 1)]);
    fixture.tail.resume_at(&fixture.waiting, Place { seq: 2, index: 1 });
    fixture.place = Place { seq: 2, index: 1 };
    assert_eq!(fixture.due(), [(2, 2), (3, 1)]);
    fixture.tail.follow_log(EPOCH, (0, Uuid::nil()), Vec::new());
    assert!(fixture.is_woken());
}

#[test]
fn a_stream_that_ended_is_forgotten() {
    for follows in [Follows::Everybody, Follows::User { user: user("alice"), with: None }] {
        let fixture = Fixture::following(follows, Vec::new());
        fixture.tail.unregister(&fixture.waiting);
        let state = fixture.tail.state();
        assert!(state.waiting.is_empty() && state.waiting_for_all.is_empty());
    }
}
