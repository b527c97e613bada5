//! Appending to the log of changes.

use std::time::Duration;

use contracts::{Change, LogEntry, Timestamp};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::to_document;
use crate::{Store, StoreError, error::is_duplicate_key};

/// Pause before a number is looked at again whose entry no majority has yet.
const VISIBLE_PAUSE: Duration = Duration::from_millis(5);

/// Time for which the newest known number stays good. An appender that was idle must look anew: what follows its number
/// may have been written and trimmed since, and its entry would land in the trimmed part, where nobody reads. If an insert
/// ends later than that, it is looked where the entry has landed. The log is kept for hours at least.
const NEWEST_LIFETIME: Duration = Duration::from_mins(1);

/// Appends entries to the log, one at a time.
///
/// It claims the number after the newest one by inserting its entry there, and only if a majority has the newest one: so a
/// number exists only where the one before it can no longer be rolled back. A counter, or a number after one that was
/// merely seen, would leave holes when the primary changes. Of two appenders, one gets the number, and the other tries the
/// next.
pub struct LogAppender {
    store: Store,
    /// A number whose entry a majority has, and when that was known.
    newest: Option<(u64, Instant)>,
}

/// An entry on its way into the log. It stays the same, however often it is tried.
#[derive(Debug)]
pub struct PendingEntry {
    entry: LogEntry,
    /// Once an insert of the entry under its number was begun: when the number before it was known to be the newest.
    claimed_at: Option<Instant>,
    /// Number of times that another appender was faster.
    pub conflicts: u32,
}

/// Result of an insert.
enum Claim {
    Won,
    /// The number is taken: by another entry, or by this one if an answer was lost.
    Taken,
}

impl PendingEntry {
    /// Makes an entry of changes, of which there are [`contracts::MAX_ENTRY_CHANGES`] at most.
    #[must_use]
    pub fn new(changes: Vec<Change>) -> Self {
        let entry = LogEntry { seq: 0, append: Uuid::new_v4(), at: Timestamp::now(), changes };
        Self { entry, claimed_at: None, conflicts: 0 }
    }

    /// Returns the entry. It has its number once it was appended.
    #[must_use]
    pub fn entry(&self) -> &LogEntry {
        &self.entry
    }

    /// Returns the entry itself.
    #[must_use]
    pub fn into_entry(self) -> LogEntry {
        self.entry
    }
}

impl LogAppender {
    /// Makes an appender that knows nothing yet.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, newest: None }
    }

    /// Appends an entry, and returns it with its number once a majority has it. After an error it is not known whether the
    /// entry is in the log: the same entry must be appended again before any other. It is then in the log once.
    pub async fn append<'a>(
        &mut self,
        pending: &'a mut PendingEntry,
    ) -> Result<&'a LogEntry, StoreError> {
        loop {
            let known_at = if let Some(known_at) = pending.claimed_at {
                known_at
            } else {
                let (newest, known_at) = self.newest().await?;
                pending.entry.seq = newest + 1;
                *pending.claimed_at.insert(known_at)
            };
            let (seq, append) = (pending.entry.seq, pending.entry.append);
            let found = match self.claim(&pending.entry).await? {
                Claim::Won => Some(append),
                Claim::Taken => self.store.append_of_log_entry(seq).await?,
            };
            match found {
                Some(found) if found == append => {
                    if known_at.elapsed() < NEWEST_LIFETIME || self.is_in_place(seq).await? {
                        break;
                    }
                    self.store.remove_log_entry(seq, append).await?;
                    self.newest = None;
                    pending.claimed_at = None;
                }
                Some(_) => {
                    // The next number may well be free. If it is not, others are ahead: a claim of each of their
                    // numbers takes as long as their appends, and never comes to the end of them.
                    let is_first = pending.conflicts == 0;
                    self.newest = is_first.then(|| (seq, Instant::now()));
                    pending.claimed_at = None;
                    pending.conflicts += 1;
                }
                // It may yet be rolled back, and then the number is free.
                None => sleep(VISIBLE_PAUSE).await,
            }
        }
        self.newest = Some((pending.entry.seq, Instant::now()));
        Ok(&pending.entry)
    }

    /// Returns the newest number that a majority has, 0 for an empty log, and when it was known.
    async fn newest(&mut self) -> Result<(u64, Instant), StoreError> {
        if let Some((newest, known_at)) = self.newest
            && known_at.elapsed() < NEWEST_LIFETIME
        {
            return Ok((newest, known_at));
        }
        let known_at = Instant::now();
        let newest = self.store.newest_log_entry().await?.map_or(0, |entry| entry.seq);
        self.newest = Some((newest, known_at));
        Ok((newest, known_at))
    }

    /// Returns false for an entry in the trimmed part: where others have appended behind it, and the next one is gone.
    async fn is_in_place(&self, seq: u64) -> Result<bool, StoreError> {
        if self.store.append_of_log_entry(seq + 1).await?.is_some() {
            return Ok(true);
        }
        let newest = self.store.newest_log_entry().await?;
        Ok(newest.is_none_or(|newest| newest.seq <= seq))
    }

    async fn claim(&self, entry: &LogEntry) -> Result<Claim, StoreError> {
        let document = to_document(entry)?;
        let (events, session) = (self.store.events.clone(), self.store.session());
        let insert = async move {
            match events.insert_one(document).session(&mut *session.await?).await {
                Ok(_) => Ok(Claim::Won),
                Err(error) if is_duplicate_key(&error) => Ok(Claim::Taken),
                Err(error) => Err(error),
            }
        };
        self.store.run(insert).await
    }
}
