//! Reads that share queries. A query costs the driver and the server far more than each document in
//! it. Reads that arrive while queries are running wait together, and the next query serves as many
//! of them as it can. That query begins after all of them have arrived, so each read sees what was
//! written before it. A lone read waits for nothing.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, timeout_at},
};

use crate::error::StoreError;

/// Maximum number of reads that wait for a query.
const MAX_WAITING: usize = 16_384;

/// Reads of one kind, each with the key that it asks for. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Batcher<K, T> {
    waiting: Arc<Mutex<Vec<PendingRead<K, T>>>>,
    workers: Arc<Semaphore>,
}

/// A read that waits for its result.
pub(crate) struct PendingRead<K, T> {
    pub(crate) key: K,
    result: oneshot::Sender<Result<T, StoreError>>,
}

/// Permission to run queries, one at a time.
pub(crate) struct Worker<K, T> {
    batcher: Batcher<K, T>,
    permit: Option<OwnedSemaphorePermit>,
}

impl<K: Clone, T: Clone> Batcher<K, T> {
    pub(crate) fn new(max_workers: usize) -> Self {
        Self { waiting: Arc::default(), workers: Arc::new(Semaphore::new(max_workers)) }
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
        let mut waiting = self.lock();
        if waiting.len() >= MAX_WAITING {
            // Reads whose clients left, or whose time is over, make room for others.
            waiting.retain(PendingRead::is_wanted);
            if waiting.len() >= MAX_WAITING {
                return Err(StoreError::Overloaded);
            }
        }
        waiting.push(read);
        let permit = Arc::clone(&self.workers).try_acquire_owned().ok();
        Ok(permit.map(|permit| Worker { batcher: self.clone(), permit: Some(permit) }))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<PendingRead<K, T>>> {
        // Nothing under the lock can panic half way.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
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

impl<K: Clone, T: Clone> Worker<K, T> {
    /// Returns the reads for the next query: those that `choose` takes out of the waiting ones, of
    /// which there is at least one. Returns `None`, and ends the worker, when no read waits.
    pub(crate) fn take(
        &mut self,
        choose: impl FnOnce(&mut Vec<PendingRead<K, T>>) -> Vec<PendingRead<K, T>>,
    ) -> Option<Vec<PendingRead<K, T>>> {
        let mut waiting = self.batcher.lock();
        waiting.retain(PendingRead::is_wanted);
        if waiting.is_empty() {
            // Under the same lock: the next read that is queued must find the permit.
            self.permit = None;
            return None;
        }
        Some(choose(&mut waiting))
    }
}
