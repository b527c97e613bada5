//! Submitting a command: publish it, wait for its outcome.

use std::{sync::Arc, time::Duration};

use broker::{Confirmed, PublishError, PublishHandle, Publisher};
use contracts::{Command, Failure, OperationId, Outcome, Problem};
use telemetry::metrics::{CounterFamily, Gauge, GaugeGuard, Histogram, catalog};
use telemetry::traces::Span;
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    commands::pending::Pending,
    error,
    spans::{self, RequestTrace},
};

/// Label values of writes that were answered without an outcome.
const ACCEPTED: &str = "accepted";
const TIMED_OUT: &str = "timed_out";
const NOT_ACCEPTED: &str = "not_accepted";
const OUTCOME_UNKNOWN: &str = "outcome_unknown";

/// Publishes commands and waits for their outcomes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct CommandSubmitter {
    publisher: Publisher,
    pending: Pending,
    permits: Arc<Semaphore>,
    soft_deadline: CancellationToken,
    metrics: Metrics,
}

#[derive(Clone)]
struct Metrics {
    waiting: Gauge,
    writes: CounterFamily,
    duration: Histogram,
}

/// The event that a write's response waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// The command's outcome, for at most this long.
    ForOutcome(Duration),
    /// The broker's confirm.
    ForConfirm,
}

/// The state of a command when its client's wait ends.
pub(crate) enum Submission {
    /// The outcome has arrived.
    Completed(Outcome),
    /// The broker has confirmed the command, but its outcome has not arrived.
    Accepted {
        operation: OperationId,
        /// True if the wait ended because its time was up.
        timed_out: bool,
    },
}

impl CommandSubmitter {
    /// Allows `max_waiting` commands at a time. Their waits end at the soft deadline.
    pub(crate) fn new(
        publisher: Publisher,
        pending: Pending,
        max_waiting: usize,
        soft_deadline: CancellationToken,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(max_waiting));
        Self { publisher, pending, permits, soft_deadline, metrics: Metrics::new() }
    }

    /// Publishes a command, then waits. Fails within 2 s if the broker does not confirm.
    pub(crate) async fn submit(
        &self,
        command: Command,
        wait: Wait,
        trace: &RequestTrace,
    ) -> Result<Submission, Problem> {
        let Ok(_permit) = self.permits.try_acquire() else {
            self.metrics.writes.count(NOT_ACCEPTED);
            return Err(error::too_many_writes());
        };
        let started = Instant::now();
        let waiting = GaugeGuard::new(&self.metrics.waiting);
        let span = trace.publish(&command);
        let result = self.publish_and_wait(&command, wait, span).await;
        drop(waiting);
        self.metrics.record(&result, started.elapsed());
        log(&command, &result);
        result.map_err(|error| error::publish_failed(&error))
    }

    async fn publish_and_wait(
        &self,
        command: &Command,
        wait: Wait,
        span: Option<Span>,
    ) -> Result<Submission, PublishError> {
        let Wait::ForOutcome(wait) = wait else {
            let (publishing, span) = self.publish(command, span)?;
            confirmed(&publishing, span).await?;
            return Ok(accepted(command, false));
        };
        let mut waiter = self.pending.wait_for(command.id);
        let (publishing, span) = self.publish(command, span)?;
        let deadline = Instant::now() + wait;
        // The outcome implies the confirm. Only a trace needs to know when it arrived; otherwise
        // this task is not woken for it.
        if span.is_none() {
            let soonest = deadline.min(publishing.deadline());
            tokio::select! {
                biased;
                outcome = waiter.outcome() => return Ok(Submission::Completed(outcome)),
                () = publishing.failed() => {}
                () = tokio::time::sleep_until(soonest) => {}
                () = self.soft_deadline.cancelled() => {}
            }
        }
        tokio::select! {
            // An outcome can overtake the confirm, and says more.
            biased;
            outcome = waiter.outcome() => return Ok(Submission::Completed(outcome)),
            confirmed = confirmed(&publishing, span) => {
                if !confirmed?.reply_expected {
                    return Ok(accepted(command, false));
                }
            }
        }
        tokio::select! {
            biased;
            outcome = waiter.outcome() => Ok(Submission::Completed(outcome)),
            () = tokio::time::sleep_until(deadline) => Ok(accepted(command, true)),
            () = self.soft_deadline.cancelled() => Ok(accepted(command, false)),
        }
    }

    /// Queues a command. Its span goes on until the confirm, or ends with the error.
    fn publish(
        &self,
        command: &Command,
        span: Option<Span>,
    ) -> Result<(PublishHandle, Option<Span>), PublishError> {
        let traceparent = span.as_ref().and_then(Span::traceparent);
        match self.publisher.publish(command, traceparent) {
            Ok(publishing) => Ok((publishing, span)),
            Err(error) => {
                spans::end_publish(span, Some(&error));
                Err(error)
            }
        }
    }
}

/// Waits for the broker's confirm, which ends the span.
async fn confirmed(
    publishing: &PublishHandle,
    span: Option<Span>,
) -> Result<Confirmed, PublishError> {
    let confirmed = publishing.confirmed().await;
    spans::end_publish(span, confirmed.as_ref().err());
    confirmed
}

impl Metrics {
    fn new() -> Self {
        let kinds = Outcome::KINDS;
        let others = [ACCEPTED, TIMED_OUT, NOT_ACCEPTED, OUTCOME_UNKNOWN];
        let kinds: Vec<_> = kinds.into_iter().chain(others).collect();
        Self {
            waiting: catalog::WRITES_WAITING.register(),
            writes: catalog::WRITES.family("outcome", &kinds),
            duration: catalog::WRITE_DURATION.register(),
        }
    }

    fn record(&self, result: &Result<Submission, PublishError>, took: Duration) {
        let kind = match result {
            Ok(Submission::Completed(outcome)) => {
                self.duration.record(took);
                outcome.kind()
            }
            Ok(Submission::Accepted { timed_out: false, .. }) => ACCEPTED,
            Ok(Submission::Accepted { timed_out: true, .. }) => {
                // Without the slowest writes, the others would look fast.
                self.duration.record(took);
                TIMED_OUT
            }
            Err(PublishError::NotAccepted(_)) => NOT_ACCEPTED,
            Err(PublishError::OutcomeUnknown(_)) => OUTCOME_UNKNOWN,
        };
        self.writes.count(kind);
    }
}

/// Logs the command's id within the request's span: workers know only the command.
fn log(command: &Command, result: &Result<Submission, PublishError>) {
    let (command_id, message_id) = (command.id, command.message_id());
    match result {
        Ok(Submission::Completed(Outcome::Failed(Failure::DeadLettered))) => {
            tracing::warn!(command.id = %command_id, message.id = %message_id, "write dead-lettered");
        }
        Ok(_) => {
            tracing::debug!(command.id = %command_id, message.id = %message_id, "write answered");
        }
        Err(error) => {
            tracing::debug!(command.id = %command_id, message.id = %message_id, %error, "write failed");
        }
    }
}

fn accepted(command: &Command, timed_out: bool) -> Submission {
    let operation = OperationId { command_id: command.id, message_id: command.message_id() };
    Submission::Accepted { operation, timed_out }
}
