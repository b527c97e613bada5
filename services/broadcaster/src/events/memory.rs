//! The newest part of the log of changes, in memory.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use contracts::{Change, LogEntry, UserId};

use super::request::Follows;

/// Maximum number of changes in memory: several MiB, and enough for a minute of a thousand writes a second.
pub(super) const MAX_CHANGES: usize = 65_536;

/// Entries without a hole between them, and where each user's changes are.
#[derive(Debug, Default)]
pub(super) struct Memory {
    entries: VecDeque<Arc<LogEntry>>,
    changes: usize,
    by_user: HashMap<UserId, VecDeque<Place>>,
}

/// A place in the log: that of a change, or the next one to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) seq: u64,
    pub(super) index: u16,
}

impl Memory {
    /// Adds the entry behind the newest one, and forgets the oldest ones beyond the limit.
    pub(super) fn push(&mut self, entry: Arc<LogEntry>) {
        debug_assert!(self.entries.back().is_none_or(|newest| newest.seq + 1 == entry.seq));
        self.changes += entry.changes.len();
        for (change, index) in entry.changes.iter().zip(0..=u16::MAX) {
            for user in change.users() {
                let place = Place { seq: entry.seq, index };
                match self.by_user.get_mut(user) {
                    Some(places) => places.push_back(place),
                    None => drop(self.by_user.insert(user.clone(), VecDeque::from([place]))),
                }
            }
        }
        self.entries.push_back(entry);
        while self.changes > MAX_CHANGES && self.entries.len() > 1 {
            self.forget_oldest();
        }
    }

    /// Returns true if the entry with this number, and every later one, is in memory; or will be, if it is the next.
    pub(super) fn covers(&self, seq: u64) -> bool {
        self.entries.front().is_some_and(|oldest| oldest.seq <= seq)
    }

    pub(super) fn get(&self, seq: u64) -> Option<&Arc<LogEntry>> {
        let oldest = self.entries.front()?.seq;
        self.entries.get(usize::try_from(seq.checked_sub(oldest)?).ok()?)
    }

    /// Returns the changes from this place on that a stream may want, as far as they are in memory: all of them, or those of
    /// the user's messages.
    pub(super) fn changes_for(
        &self,
        follows: &Follows,
        from: Place,
    ) -> impl Iterator<Item = (Place, &LogEntry, &Change)> {
        let of_user = follows.user().map(|user| self.changes_of(user, from));
        let all = of_user.is_none().then(|| self.changes_from(from));
        of_user.into_iter().flatten().chain(all.into_iter().flatten())
    }

    fn changes_from(&self, from: Place) -> impl Iterator<Item = (Place, &LogEntry, &Change)> {
        let oldest = self.entries.front().map_or(0, |oldest| oldest.seq);
        let first = usize::try_from(from.seq.saturating_sub(oldest)).unwrap_or(usize::MAX);
        let entries = self.entries.range(first.min(self.entries.len())..);
        entries.flat_map(move |entry| {
            let begin = if entry.seq == from.seq { from.index } else { 0 };
            let changes = (begin..=u16::MAX).zip(entry.changes.iter().skip(begin.into()));
            changes.map(|(index, change)| (Place { seq: entry.seq, index }, &**entry, change))
        })
    }

    fn changes_of(
        &self,
        user: &UserId,
        from: Place,
    ) -> impl Iterator<Item = (Place, &LogEntry, &Change)> {
        let places = self.by_user.get(user).into_iter();
        let places = places
            .flat_map(move |places| places.range(places.partition_point(|place| *place < from)..));
        places.filter_map(|place| {
            let entry = self.get(place.seq)?;
            Some((*place, &**entry, entry.changes.get(usize::from(place.index))?))
        })
    }

    fn forget_oldest(&mut self) {
        let Some(oldest) = self.entries.pop_front() else { return };
        self.changes -= oldest.changes.len();
        for user in oldest.users() {
            let Some(places) = self.by_user.get_mut(user) else { continue };
            while places.front().is_some_and(|place| place.seq <= oldest.seq) {
                places.pop_front();
            }
            if places.is_empty() {
                self.by_user.remove(user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::tests::{entry, user};

    #[test]
    fn the_oldest_entries_are_forgotten_first() {
        let mut memory = Memory::default();
        assert!(!memory.covers(1));
        let changes = MAX_CHANGES / 2;
        for seq in 5..8 {
            memory.push(Arc::new(entry(seq, &vec![("alice", "bob"); changes])));
        }
        assert!(!memory.covers(5) && memory.covers(6) && memory.covers(8));
        assert!(memory.get(5).is_none() && memory.get(8).is_none());
        assert_eq!(memory.get(6).unwrap().seq, 6);
        assert_eq!(memory.by_user.len(), 2);
        let of_alice = |seq, index| memory.changes_of(&user("alice"), Place { seq, index }).count();
        assert_eq!((of_alice(0, 0), of_alice(7, 5), of_alice(8, 0)), (2 * changes, changes - 5, 0));
    }

    #[test]
    fn an_entry_beyond_the_limit_alone_is_kept() {
        let mut memory = Memory::default();
        memory.push(Arc::new(entry(1, &vec![("alice", "bob"); MAX_CHANGES + 1])));
        assert!(memory.get(1).is_some());
    }

    #[test]
    fn each_change_is_found_by_both_of_its_users_and_forgotten_with_its_entry() {
        let mut memory = Memory::default();
        let changes = [("alice", "bob"), ("carol", "carol"), ("bob", "alice")];
        memory.push(Arc::new(entry(1, &changes)));
        let of = |memory: &Memory, name: &str| {
            let name = user(name);
            let changes = memory.changes_of(&name, Place { seq: 0, index: 0 });
            changes.map(|(place, ..)| place.index).collect::<Vec<_>>()
        };
        assert_eq!(of(&memory, "alice"), [0, 2]);
        assert_eq!(of(&memory, "bob"), [0, 2]);
        assert_eq!(of(&memory, "carol"), [1], "once, though it has both parts");
        assert_eq!(of(&memory, "dan"), [0; 0]);
        let of_all = |place| {
            let changes = memory.changes_for(&Follows::Everybody, place);
            changes.map(|(place, ..)| (place.seq, place.index)).collect::<Vec<_>>()
        };
        assert_eq!(of_all(Place { seq: 0, index: 0 }), [(1, 0), (1, 1), (1, 2)]);
        assert_eq!(of_all(Place { seq: 1, index: 2 }), [(1, 2)]);
        assert_eq!(of_all(Place { seq: 2, index: 0 }), []);
        memory.push(Arc::new(entry(2, &vec![("dan", "erin"); MAX_CHANGES])));
        let mut users: Vec<&str> = memory.by_user.keys().map(UserId::as_str).collect();
        users.sort_unstable();
        assert_eq!(users, ["dan", "erin"]);
    }
}
