//! The commands whose outcome a request waits for.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use contracts::{CommandId, Outcome, Reply};
use tokio::sync::oneshot;

/// The requests that wait, by their command. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Pending(Arc<Mutex<HashMap<CommandId, oneshot::Sender<Outcome>>>>);

/// The wait of one request. Dropping it ends the wait.
pub(crate) struct Waiter {
    command_id: CommandId,
    pending: Pending,
    outcome: oneshot::Receiver<Outcome>,
}

impl Pending {
    /// Starts a wait. Must be called before the command is published, lest its outcome be missed.
    pub(crate) fn wait_for(&self, command_id: CommandId) -> Waiter {
        let (sender, outcome) = oneshot::channel();
        self.lock().insert(command_id, sender);
        Waiter { command_id, pending: self.clone(), outcome }
    }

    /// Passes an outcome to the request that waits for it, if it still does.
    pub(crate) fn resolve(&self, reply: Reply) {
        let waiting = self.lock().remove(&reply.command_id);
        if let Some(sender) = waiting {
            // The receiver is gone if the request is.
            sender.send(reply.outcome).ok();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CommandId, oneshot::Sender<Outcome>>> {
        // Nothing under the lock can panic halfway.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    /// Waits for the outcome.
    pub(crate) async fn outcome(&mut self) -> Outcome {
        match (&mut self.outcome).await {
            Ok(outcome) => outcome,
            // The sender is dropped only together with this waiter.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.pending.lock().remove(&self.command_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_outcome_reaches_the_request_that_waits_for_it_and_no_other() {
        let pending = Pending::default();
        let (one, other) = (CommandId::generate(), CommandId::generate());
        let mut waiter = pending.wait_for(one);
        let other_waiter = pending.wait_for(other);
        pending.resolve(Reply { command_id: one, outcome: Outcome::Deleted, cluster_time: None });
        assert_eq!(waiter.outcome().await, Outcome::Deleted);
        drop((waiter, other_waiter));
        assert!(pending.lock().is_empty());
        pending.resolve(Reply { command_id: other, outcome: Outcome::Deleted, cluster_time: None });
    }
}
