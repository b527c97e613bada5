//! Reads that share queries. A query costs the driver and the server far more than what is asked in
//! it, so reads that come while others are under way gather, and the next query answers as many of
//! them as it can. It begins after all of them have come, so each sees what was written before it.
//! A lone read waits for nobody.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use crate::StoreError;

/// Reads that may wait for a query.
const MAX_WAITING: usize = 16_384;

type Found<T> = Result<T, StoreError>;

/// The reads of one kind that wait for a query: what they want, and what they find. Cheap to clone.
pub(crate) struct Gathering<W, T> {
    state: Arc<Mutex<State<W, T>>>,
    /// Queries at once. More would only make each of them serve fewer reads.
    max_readers: usize,
}

struct State<W, T> {
    waiting: Vec<Waiting<W, T>>,
    readers: usize,
}

/// A read that waits.
pub(crate) struct Waiting<W, T> {
    pub(crate) wanted: W,
    found: oneshot::Sender<Found<T>>,
}

/// The right to be one of the readers, until it is dropped: also if its task panics.
pub(crate) struct Reader<W, T> {
    gathering: Gathering<W, T>,
    reading: bool,
}

/// What becomes of a read.
enum Queued<W, T> {
    /// A reader under way takes it next.
    Waiting,
    /// It needs a reader of its own.
    NeedsReader(Reader<W, T>),
    /// There are too many already.
    Refused,
}

impl<W, T> Gathering<W, T> {
    pub(crate) fn new(max_readers: usize) -> Self {
        let state = State { waiting: Vec::new(), readers: 0 };
        Self { state: Arc::new(Mutex::new(state)), max_readers }
    }

    /// What this read finds, in this time. `read` is a reader's work: to take what waits until
    /// nothing does.
    pub(crate) async fn find<R>(
        &self,
        wanted: W,
        limit: Duration,
        read: impl FnOnce(Reader<W, T>) -> R,
    ) -> Found<T>
    where
        R: Future<Output = ()> + Send + 'static,
    {
        let deadline = Instant::now() + limit;
        let (sender, found) = oneshot::channel();
        match self.queue(Waiting { wanted, found: sender }) {
            Queued::Waiting => {}
            Queued::NeedsReader(reader) => {
                tokio::spawn(read(reader));
            }
            Queued::Refused => return Err(StoreError::Overloaded),
        }
        match timeout_at(deadline, found).await {
            Ok(Ok(found)) => found,
            Ok(Err(_)) => Err(StoreError::Cancelled("its reader is gone".to_owned())),
            Err(_) => Err(StoreError::Silent(limit)),
        }
    }

    fn queue(&self, read: Waiting<W, T>) -> Queued<W, T> {
        let mut state = self.lock();
        if state.waiting.len() >= MAX_WAITING {
            // Those whose clients left, or whose time is over, are in nobody's way.
            state.waiting.retain(Waiting::is_wanted);
            if state.waiting.len() >= MAX_WAITING {
                return Queued::Refused;
            }
        }
        state.waiting.push(read);
        if state.readers == self.max_readers {
            return Queued::Waiting;
        }
        state.readers += 1;
        Queued::NeedsReader(Reader { gathering: self.clone(), reading: true })
    }

    fn lock(&self) -> MutexGuard<'_, State<W, T>> {
        // Nothing that could panic half way is done under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W, T> Clone for Gathering<W, T> {
    fn clone(&self) -> Self {
        Self { state: Arc::clone(&self.state), max_readers: self.max_readers }
    }
}

impl<W, T> Waiting<W, T> {
    pub(crate) fn answer(self, found: Found<T>) {
        // Who left meanwhile needs no answer.
        let _ = self.found.send(found);
    }

    fn is_wanted(&self) -> bool {
        !self.found.is_closed()
    }
}

impl<W, T> Reader<W, T> {
    /// What the next query reads: what `choose` takes out of what waits, of which there is some.
    /// Nothing ends the reader that asks.
    pub(crate) fn take(
        &mut self,
        choose: impl FnOnce(&mut Vec<Waiting<W, T>>) -> Vec<Waiting<W, T>>,
    ) -> Option<Vec<Waiting<W, T>>> {
        let mut state = self.gathering.lock();
        state.waiting.retain(Waiting::is_wanted);
        if state.waiting.is_empty() {
            // Under the same lock: what is queued next must find one reader less.
            state.readers -= 1;
            self.reading = false;
            return None;
        }
        Some(choose(&mut state.waiting))
    }
}

impl<W, T> Drop for Reader<W, T> {
    fn drop(&mut self) {
        if self.reading {
            self.gathering.lock().readers -= 1;
        }
    }
}
