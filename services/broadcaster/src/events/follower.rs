//! A follower: pulls the changes that one stream wants, in the order of the log, and makes events of them.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use contracts::{Change, ChangeKind, DeletedMessage, Event, EventPosition, LogEntry};
use futures_util::future::try_join_all;
use store::{EntryOfUser, Store, StoreError};
use tokio::time::sleep;

use super::{
    request::Follows,
    reset_reason::ResetReason,
    resume::{self, Resumed},
    tail::{Due, LogId, Place, Scan, Tail, Waiting},
};

/// Maximum number of entries in one read of the log. Each may have hundreds of changes that are wanted.
const MAX_ENTRIES: u16 = 16;

/// Maximum number of messages that are read together for one stream. Each may have 16 KB, and a slow client holds them.
const MAX_MESSAGES: usize = 16;

/// Number of times that a message is read again whose version is older than the change. Then it is another message: an
/// idempotency key allows one with the same id, a week after the first was deleted.
const MAX_REREADS: usize = 10;

/// Pause before a message is read again.
const REREAD_PAUSE: Duration = Duration::from_millis(50);

/// An item that a stream sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// The stream begins at this position. `resumed` tells whether that is the one that the client asked for.
    Ready { position: EventPosition, resumed: bool },
    /// A change.
    Event { position: EventPosition, event: Event },
    /// Changes may be missing before this position, so the client must start over.
    Reset { position: EventPosition, reason: ResetReason },
}

/// The next thing that a follower has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Item(Item),
    /// There may be more: a part of the log was read.
    Moved,
    /// There is nothing more for now.
    AtEnd,
}

/// The follower of one stream. Dropping it ends its registration.
pub(crate) struct Follower {
    tail: Arc<Tail>,
    store: Arc<Store>,
    waiting: Arc<Waiting>,
    log: LogId,
    /// The next change to look at. Those before it are due, or not wanted.
    place: Place,
    /// Position of the client.
    position: EventPosition,
    opening: Option<Opening>,
    due: VecDeque<Due>,
    items: VecDeque<Item>,
}

/// Request of a stream that has not begun yet.
#[derive(Clone, Copy, Debug)]
struct Opening {
    after: Option<EventPosition>,
    max_due: Option<u32>,
}

/// The tail has not read the log yet.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the log of changes has not been read yet")]
pub(crate) struct NotFollowing;

impl Item {
    pub(crate) fn position(&self) -> EventPosition {
        match self {
            Self::Ready { position, .. }
            | Self::Event { position, .. }
            | Self::Reset { position, .. } => *position,
        }
    }
}

impl Follower {
    /// Follows from the position `after`, or from now on. With `max_due`, a position that more changes follow is reset.
    pub(crate) fn new(
        tail: &Arc<Tail>,
        store: &Arc<Store>,
        follows: Follows,
        after: Option<EventPosition>,
        max_due: Option<u32>,
    ) -> Result<Self, NotFollowing> {
        let (waiting, log, position) = tail.register(follows).ok_or(NotFollowing)?;
        Ok(Self {
            tail: Arc::clone(tail),
            store: Arc::clone(store),
            waiting,
            log,
            place: Place::behind(position),
            position,
            opening: Some(Opening { after, max_due }),
            due: VecDeque::new(),
            items: VecDeque::new(),
        })
    }

    /// Returns the position behind everything that was taken and everything that is not wanted. Before the stream has begun,
    /// that is the one from which it was to go on: nothing behind it is known yet.
    pub(crate) fn position(&self) -> EventPosition {
        self.opening.and_then(|opening| opening.after).unwrap_or(self.position)
    }

    /// Returns the next item, or that there is none now. Cancel safe. After an error, it can be tried again.
    pub(crate) async fn try_next(&mut self) -> Result<Next, StoreError> {
        loop {
            if let Some(item) = self.items.pop_front() {
                self.position = item.position();
                return Ok(Next::Item(item));
            }
            if let Some(opening) = self.opening {
                // On the heap, as the reads below: a stream mostly waits, and should be no larger for what it rarely does.
                Box::pin(self.open(opening)).await?;
                continue;
            }
            if !self.due.is_empty() {
                Box::pin(self.read_messages()).await?;
                continue;
            }
            match self.tail.scan(&self.waiting, self.log, &mut self.place) {
                Scan::Found(due) => self.due.extend(due),
                Scan::AtEnd(end) => {
                    self.position = end;
                    return Ok(Next::AtEnd);
                }
                Scan::ReadLog { newest } => {
                    Box::pin(self.read_log(newest)).await?;
                    return Ok(Next::Moved);
                }
                Scan::Ahead => return Ok(Next::AtEnd),
                Scan::OtherLog { log, end } => {
                    self.log = log;
                    self.reset(end, ResetReason::OtherEpoch);
                }
            }
        }
    }

    /// Waits until there may be more.
    pub(crate) async fn woken(&self) {
        self.waiting.woken.notified().await;
    }

    /// Begins the stream.
    async fn open(&mut self, opening: Opening) -> Result<(), StoreError> {
        let mut ready = Item::Ready { position: self.position, resumed: false };
        let mut reset = None;
        if let Some(after) = opening.after {
            let (tail, store) = (&self.tail, &self.store);
            let (log, follows) = (self.log, self.waiting.follows());
            match resume::check(tail, store, log, follows, after, opening.max_due).await? {
                Resumed::At(place) => {
                    self.place = place;
                    self.tail.resume_at(&self.waiting, place);
                    ready = Item::Ready { position: after, resumed: true };
                }
                Resumed::Reset(reason) => {
                    reset = Some(reason);
                    // A client that gets this far and no further must be told again.
                    ready = Item::Ready { position: after, resumed: false };
                }
            }
        }
        self.opening = None;
        self.items.push_back(ready);
        if let Some(reason) = reset {
            self.reset(self.position, reason);
        }
        Ok(())
    }

    fn reset(&mut self, position: EventPosition, reason: ResetReason) {
        tracing::debug!(reason = reason.text(), "an event stream starts over");
        self.tail.metrics.resets.count(reason.text());
        self.due.clear();
        self.items.push_back(Item::Reset { position, reason });
    }

    /// Reads the log where the memory does not reach. The log had `newest` when the tail looked, so the read sees that, too.
    async fn read_log(&mut self, newest: u64) -> Result<(), StoreError> {
        self.tail.metrics.log_reads.increment(1);
        let (store, from, epoch) = (&self.store, self.place, self.log.epoch);
        let turn = self.tail.catching_up().await;
        let entries = match self.waiting.follows() {
            Follows::User { user, with } => {
                store.entries_of(user, with.as_ref(), from.seq, MAX_ENTRIES).await?
            }
            Follows::Everybody => {
                let entries = store.log_from(from.seq, MAX_ENTRIES).await?;
                entries.into_iter().map(all_of).collect()
            }
        };
        // Afterwards, so that what was trimmed meanwhile is noticed.
        let oldest = store.oldest_log_number().await?;
        drop(turn);
        if oldest.is_none_or(|oldest| oldest > from.seq) {
            let end = self.tail.to_end(&self.waiting, &mut self.place);
            self.reset(end.unwrap_or(self.position), ResetReason::PositionExpired);
            return Ok(());
        }
        let last = entries.last().map(|last| (last.seq, last.append));
        let is_all = entries.len() < usize::from(MAX_ENTRIES);
        for EntryOfUser { seq, append, changes } in entries {
            let is_new = |(index, _): &(u16, Change)| Place { seq, index: *index } >= from;
            self.due.extend(changes.into_iter().filter(is_new).map(|(index, change)| Due {
                position: EventPosition::within(epoch, seq, append, index + 1),
                change,
            }));
        }
        if let Some((seq, append)) = last
            && self.due.is_empty()
        {
            // A client that is interrupted need not go through these again.
            self.position = EventPosition::behind(epoch, seq, append);
        }
        let last = last.map_or(0, |(seq, _)| seq);
        self.place = Place { seq: if is_all { last.max(newest) } else { last } + 1, index: 0 };
        self.tail.resume_at(&self.waiting, self.place);
        Ok(())
    }

    /// Makes events of the first changes that are due.
    async fn read_messages(&mut self) -> Result<(), StoreError> {
        let count = self.due.len().min(MAX_MESSAGES);
        let reading = self.due.range(..count).map(|due| event(&self.store, &due.change));
        let events = try_join_all(reading).await?;
        for (event, due) in events.into_iter().zip(self.due.drain(..count)) {
            let position = due.position;
            self.items.extend(event.map(|event| Item::Event { position, event }));
        }
        Ok(())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.tail.unregister(&self.waiting);
    }
}

/// Returns an entry as a stream of everybody wants it.
fn all_of(entry: LogEntry) -> EntryOfUser {
    let LogEntry { seq, append, changes, .. } = entry;
    EntryOfUser { seq, append, changes: (0..=u16::MAX).zip(changes).collect() }
}

/// Returns the event of a change, with the message as it is now; `None` for one that was deleted since, which a later
/// change tells.
async fn event(store: &Store, change: &Change) -> Result<Option<Event>, StoreError> {
    let Change { kind, message_id: id, version, from_user_id, to_user_id } = change;
    if *kind == ChangeKind::Deleted {
        let (from_user_id, to_user_id) = (from_user_id.clone(), to_user_id.clone());
        let message = DeletedMessage { id: *id, from_user_id, to_user_id };
        return Ok(Some(Event::Deleted { version: *version, message }));
    }
    for _ in 0..MAX_REREADS {
        let Some(found) = store.find(*id).await? else { return Ok(None) };
        let (version_now, message) = (found.version, found.message);
        // Its users tell it from another message with the same id.
        if (&message.from_user_id, &message.to_user_id) != (from_user_id, to_user_id) {
            break;
        }
        if version_now >= *version {
            return Ok(Some(match kind {
                ChangeKind::Created => Event::Created { version: version_now, message },
                _ => Event::Edited { version: version_now, message },
            }));
        }
        sleep(REREAD_PAUSE).await;
    }
    tracing::debug!(message.id = %id, version, "left out a change: its id is another message's now");
    Ok(None)
}
