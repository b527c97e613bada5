//! The newest part of the log of changes, in memory.

use std::{collections::VecDeque, sync::Arc};

use contracts::LogEntry;

/// Maximum number of changes in memory: several MiB, and enough for a minute of a thousand writes a second.
pub(super) const MAX_CHANGES: usize = 65_536;

/// Entries without a hole between them.
#[derive(Debug, Default)]
pub(super) struct Memory {
    entries: VecDeque<Arc<LogEntry>>,
    changes: usize,
}

impl Memory {
    /// Adds the entry behind the newest one, and forgets the oldest ones beyond the limit.
    pub(super) fn push(&mut self, entry: Arc<LogEntry>) {
        debug_assert!(self.entries.back().is_none_or(|newest| newest.seq + 1 == entry.seq));
        self.changes += entry.changes.len();
        self.entries.push_back(entry);
        while self.changes > MAX_CHANGES && self.entries.len() > 1 {
            if let Some(oldest) = self.entries.pop_front() {
                self.changes -= oldest.changes.len();
            }
        }
    }

    /// Returns true if the entry with this number, and every later one, is in memory; or will be, if it is the next.
    pub(super) fn covers(&self, seq: u64) -> bool {
        self.entries.front().is_some_and(|oldest| oldest.seq <= seq)
    }

    pub(super) fn get(&self, seq: u64) -> Option<&Arc<LogEntry>> {
        self.from(seq).next().filter(|entry| entry.seq == seq)
    }

    /// Returns the entries from this number on, as far as they are in memory.
    pub(super) fn from(&self, seq: u64) -> impl Iterator<Item = &Arc<LogEntry>> {
        let oldest = self.entries.front().map_or(0, |oldest| oldest.seq);
        let skipped = usize::try_from(seq.saturating_sub(oldest)).unwrap_or(usize::MAX);
        self.entries.range(skipped.min(self.entries.len())..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::tests::entry;

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
        let from = |seq| memory.from(seq).map(|entry| entry.seq).collect::<Vec<_>>();
        assert_eq!((from(0), from(7), from(8)), (vec![6, 7], vec![7], vec![]));
    }

    #[test]
    fn an_entry_beyond_the_limit_alone_is_kept() {
        let mut memory = Memory::default();
        memory.push(Arc::new(entry(1, &vec![("alice", "bob"); MAX_CHANGES + 1])));
        assert!(memory.get(1).is_some());
    }
}
