//! Taking a write: publish the command, wait for its outcome.

use std::{sync::Arc, time::Duration};

use broker::{PublishError, Publisher};
use contracts::{Command, CommandResult, OperationId, Problem, ProblemKind};
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::pending::Pending;

/// Publishes commands and waits for what becomes of them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Writes {
    publisher: Publisher,
    pending: Pending,
    permits: Arc<Semaphore>,
    hurrying: CancellationToken,
}

/// How long a write's answer may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Until the write is stored, and no longer than this since it was taken.
    For(Duration),
    /// Until the broker has it for good.
    ForConfirmOnly,
}

/// How far a write came while its client waited.
pub(crate) enum Progress {
    /// It came to its end.
    Finished(CommandResult),
    /// The broker has it for good; it is not applied yet, as far as is known.
    Accepted(OperationId),
}

impl Writes {
    /// Once `hurrying`, waits end at once.
    pub(crate) fn new(
        publisher: Publisher,
        pending: Pending,
        max_waiting: usize,
        hurrying: CancellationToken,
    ) -> Self {
        Self { publisher, pending, permits: Arc::new(Semaphore::new(max_waiting)), hurrying }
    }

    /// Publishes a command, then waits for its outcome. Ends within 2 s where the broker does not
    /// confirm.
    pub(crate) async fn submit(&self, command: &Command, wait: Wait) -> Result<Progress, Problem> {
        let Ok(_permit) = self.permits.try_acquire() else {
            let detail = "too many writes are waiting; nothing was written, repeat it later";
            return Err(Problem::new(ProblemKind::NotAccepted, detail));
        };
        let Wait::For(wait) = wait else {
            self.publisher.publish(command).await.map_err(|error| unconfirmed(&error))?;
            return Ok(accepted(command));
        };
        let deadline = Instant::now() + wait;
        let mut waiter = self.pending.wait_for(command.id);
        tokio::select! {
            // An outcome can overtake the confirm; it says more.
            biased;
            result = waiter.result() => return Ok(Progress::Finished(result)),
            confirmed = self.publisher.publish(command) => {
                let confirmed = confirmed.map_err(|error| unconfirmed(&error))?;
                if !confirmed.reply_expected {
                    return Ok(accepted(command));
                }
            }
        }
        tokio::select! {
            biased;
            result = waiter.result() => Ok(Progress::Finished(result)),
            () = tokio::time::sleep_until(deadline) => Ok(accepted(command)),
            () = self.hurrying.cancelled() => Ok(accepted(command)),
        }
    }
}

fn accepted(command: &Command) -> Progress {
    Progress::Accepted(OperationId { command_id: command.id, message_id: command.message_id })
}

fn unconfirmed(error: &PublishError) -> Problem {
    match error {
        PublishError::NotAccepted(reason) => {
            tracing::debug!(reason, "write not accepted");
            let detail = "the message broker did not take the write; nothing was written, \
                          repeat it later";
            Problem::new(ProblemKind::NotAccepted, detail)
        }
        PublishError::OutcomeUnknown(reason) => {
            tracing::debug!(reason, "write with unknown outcome");
            let detail = "the message broker did not confirm the write, which may still be \
                          applied; repeat it with the same Idempotency-Key or with If-Match";
            Problem::new(ProblemKind::OutcomeUnknown, detail)
        }
    }
}
