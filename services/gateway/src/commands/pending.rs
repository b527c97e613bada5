//! Requests that wait for the outcome of their command.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use contracts::{CommandId, Outcome, Reply};
use tokio::sync::oneshot;

/// Who waits for which command. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Pending(Arc<Mutex<HashMap<CommandId, oneshot::Sender<Outcome>>>>);

/// One request's wait. Dropping it ends the wait.
pub(crate) struct Waiter {
    command_id: CommandId,
    pending: Pending,
    outcome: oneshot::Receiver<Outcome>,
}

impl Pending {
    /// Starts waiting. Call it before the command is published, so that no outcome is missed.
    pub(crate) fn wait_for(&self, command_id: CommandId) -> Waiter {
        let (sender, outcome) = oneshot::channel();
        self.lock().insert(command_id, sender);
        Waiter { command_id, pending: self.clone(), outcome }
    }

    /// Hands an outcome to the request that waits for it, if it still does.
    pub(crate) fn resolve(&self, reply: Reply) {
        let waiting = self.lock().remove(&reply.command_id);
        if let Some(sender) = waiting {
            // A request that is gone needs no answer.
            let _ = sender.send(reply.outcome);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CommandId, oneshot::Sender<Outcome>>> {
        // Nothing that could panic half way is done under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    /// The outcome, once it is there.
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
        pending.resolve(Reply { command_id: one, outcome: Outcome::Deleted });
        assert_eq!(waiter.outcome().await, Outcome::Deleted);
        drop((waiter, other_waiter));
        assert!(pending.lock().is_empty());
        pending.resolve(Reply { command_id: other, outcome: Outcome::Deleted });
    }
}
