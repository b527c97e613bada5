//! Reads that share queries. A query costs the driver and the server far more than each document in
//! it. Reads that arrive while queries are running wait together, and the next query answers as many
//! of them as it can. That query begins after all of them have arrived, so each read sees what was
//! written before it. A lone read waits for nothing.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use crate::error::StoreError;

/// Maximum number of reads that wait for a query.
const MAX_WAITING: usize = 16_384;

/// Reads of one kind, each with the key that it asks for. Cheap to clone.
pub(crate) struct Batcher<K, T> {
    state: Arc<Mutex<State<K, T>>>,
    max_workers: usize,
}

struct State<K, T> {
    waiting: Vec<PendingRead<K, T>>,
    workers: usize,
}

/// A read that waits for its result.
pub(crate) struct PendingRead<K, T> {
    pub(crate) key: K,
    result: oneshot::Sender<Result<T, StoreError>>,
}

/// Permission to run queries, one at a time. Dropping it gives it back, also after a panic.
pub(crate) struct Worker<K, T> {
    batcher: Batcher<K, T>,
    active: bool,
}

impl<K, T> Batcher<K, T> {
    pub(crate) fn new(max_workers: usize) -> Self {
        let state = State { waiting: Vec::new(), workers: 0 };
        Self { state: Arc::new(Mutex::new(state)), max_workers }
    }

    /// Returns the result for this key, within the limit of time. `work` is a worker's loop: it takes
    /// waiting reads until there are none.
    pub(crate) async fn read<R>(
        &self,
        key: K,
        limit: Duration,
        work: impl FnOnce(Worker<K, T>) -> R,
    ) -> Result<T, StoreError>
    where
        R: Future<Output = ()> + Send + 'static,
    {
        let deadline = Instant::now() + limit;
        let (sender, result) = oneshot::channel();
        if let Some(worker) = self.queue(PendingRead { key, result: sender })? {
            tokio::spawn(work(worker));
        }
        match timeout_at(deadline, result).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(StoreError::Cancelled("the task that queried is gone".to_owned())),
            Err(_) => Err(StoreError::Timeout(limit)),
        }
    }

    /// Queues a read. Returns a new worker for it, unless the running ones take it next.
    fn queue(&self, read: PendingRead<K, T>) -> Result<Option<Worker<K, T>>, StoreError> {
        let mut state = self.lock();
        if state.waiting.len() >= MAX_WAITING {
            // Reads whose clients left, or whose time is over, make room for others.
            state.waiting.retain(PendingRead::is_wanted);
            if state.waiting.len() >= MAX_WAITING {
                return Err(StoreError::Overloaded);
            }
        }
        state.waiting.push(read);
        if state.workers == self.max_workers {
            return Ok(None);
        }
        state.workers += 1;
        Ok(Some(Worker { batcher: self.clone(), active: true }))
    }

    fn lock(&self) -> MutexGuard<'_, State<K, T>> {
        // Nothing under the lock can panic half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, T> Clone for Batcher<K, T> {
    fn clone(&self) -> Self {
        Self { state: Arc::clone(&self.state), max_workers: self.max_workers }
    }
}

impl<K, T> PendingRead<K, T> {
    pub(crate) fn complete(self, result: Result<T, StoreError>) {
        // A client that left meanwhile needs no result.
        let _ = self.result.send(result);
    }

    fn is_wanted(&self) -> bool {
        !self.result.is_closed()
    }
}

impl<K, T> Worker<K, T> {
    /// Returns the reads for the next query: those that `choose` takes out of the waiting ones, of
    /// which there is at least one. Returns `None`, and ends the worker, when no read waits.
    pub(crate) fn take(
        &mut self,
        choose: impl FnOnce(&mut Vec<PendingRead<K, T>>) -> Vec<PendingRead<K, T>>,
    ) -> Option<Vec<PendingRead<K, T>>> {
        let mut state = self.batcher.lock();
        state.waiting.retain(PendingRead::is_wanted);
        if state.waiting.is_empty() {
            // Under the same lock: the next read that is queued must find one worker less.
            state.workers -= 1;
            self.active = false;
            return None;
        }
        Some(choose(&mut state.waiting))
    }
}

impl<K, T> Drop for Worker<K, T> {
    fn drop(&mut self) {
        if self.active {
            self.batcher.lock().workers -= 1;
        }
    }
}
