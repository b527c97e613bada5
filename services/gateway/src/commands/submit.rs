//! Taking a write: publish the command, wait for its outcome.

use std::{sync::Arc, time::Duration};

use broker::{Confirmed, PublishError, PublishHandle, Publisher};
use contracts::{Command, Failure, OperationId, Outcome, Problem, ProblemKind};
use telemetry::metrics::{CounterFamily, Gauge, GaugeGuard, Histogram, catalog};
use telemetry::traces::Span;
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    commands::pending::Pending,
    spans::{self, RequestTrace},
};

/// How writes are counted that were answered without an outcome.
const ACCEPTED: &str = "accepted";
const TIMED_OUT: &str = "timed_out";
const NOT_ACCEPTED: &str = "not_accepted";
const UNKNOWN: &str = "outcome_unknown";

/// Publishes commands and waits for what becomes of them. Cheap to clone.
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
    answers: CounterFamily,
    duration: Histogram,
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
    Finished(Outcome),
    /// The broker has it for good; it is not applied yet, as far as is known.
    Accepted {
        operation: OperationId,
        /// Whether its outcome took longer than there was time for.
        timed_out: bool,
    },
}

impl CommandSubmitter {
    /// Once the soft deadline is reached, waits end at once.
    pub(crate) fn new(
        publisher: Publisher,
        pending: Pending,
        max_waiting: usize,
        soft_deadline: CancellationToken,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(max_waiting));
        Self { publisher, pending, permits, soft_deadline, metrics: Metrics::new() }
    }

    /// Publishes a command, then waits for its outcome. Ends within 2 s where the broker does not
    /// confirm.
    pub(crate) async fn submit(
        &self,
        command: Command,
        wait: Wait,
        place: &RequestTrace,
    ) -> Result<Progress, Problem> {
        let Ok(_permit) = self.permits.try_acquire() else {
            self.metrics.answers.count(NOT_ACCEPTED);
            let detail = "too many writes are waiting; nothing was written, repeat it later";
            return Err(Problem::new(ProblemKind::NotAccepted, detail));
        };
        let begun = Instant::now();
        let waiting = GaugeGuard::new(&self.metrics.waiting);
        let span = place.publish(&command);
        let answer = self.publish_and_wait(&command, wait, span).await;
        drop(waiting);
        self.metrics.note(&answer, begun.elapsed());
        log(&command, &answer);
        answer.map_err(|error| unconfirmed(&error))
    }

    async fn publish_and_wait(
        &self,
        command: &Command,
        wait: Wait,
        mut span: Option<Span>,
    ) -> Result<Progress, PublishError> {
        let Wait::For(wait) = wait else {
            let publishing = self.publish(command, &mut span)?;
            confirmed(&publishing, span).await?;
            return Ok(accepted(command));
        };
        let mut waiter = self.pending.wait_for(command.id);
        let publishing = self.publish(command, &mut span)?;
        let deadline = Instant::now() + wait;
        // Nobody needs to know of a confirm but the outcome, the client in time, and a trace.
        if span.is_none() {
            let soonest = deadline.min(publishing.deadline());
            tokio::select! {
                biased;
                outcome = waiter.outcome() => return Ok(Progress::Finished(outcome)),
                () = publishing.failed() => {}
                () = tokio::time::sleep_until(soonest) => {}
                () = self.soft_deadline.cancelled() => {}
            }
        }
        tokio::select! {
            // An outcome can overtake the confirm; it says more.
            biased;
            outcome = waiter.outcome() => return Ok(Progress::Finished(outcome)),
            confirmed = confirmed(&publishing, span) => {
                if !confirmed?.reply_expected {
                    return Ok(accepted(command));
                }
            }
        }
        tokio::select! {
            biased;
            outcome = waiter.outcome() => Ok(Progress::Finished(outcome)),
            () = tokio::time::sleep_until(deadline) => Ok(timed_out(command)),
            () = self.soft_deadline.cancelled() => Ok(accepted(command)),
        }
    }

    fn publish(
        &self,
        command: &Command,
        span: &mut Option<Span>,
    ) -> Result<PublishHandle, PublishError> {
        let traceparent = span.as_ref().and_then(Span::traceparent);
        let publishing = self.publisher.publish(command, traceparent);
        if publishing.is_err() {
            spans::published(span.take(), &publishing);
        }
        publishing
    }
}

/// Waits for the broker's answer, which ends the span.
async fn confirmed(
    publishing: &PublishHandle,
    span: Option<Span>,
) -> Result<Confirmed, PublishError> {
    let confirmed = publishing.confirmed().await;
    spans::published(span, &confirmed);
    confirmed
}

impl Metrics {
    fn new() -> Self {
        let kinds = Outcome::KINDS;
        let others = [ACCEPTED, TIMED_OUT, NOT_ACCEPTED, UNKNOWN];
        let kinds: Vec<_> = kinds.into_iter().chain(others).collect();
        Self {
            waiting: catalog::WRITES_WAITING.register(),
            answers: catalog::WRITES.family("outcome", &kinds),
            duration: catalog::WRITE_DURATION.register(),
        }
    }

    fn note(&self, answer: &Result<Progress, PublishError>, took: Duration) {
        let kind = match answer {
            Ok(Progress::Finished(outcome)) => {
                self.duration.record(took);
                outcome.kind()
            }
            Ok(Progress::Accepted { timed_out: false, .. }) => ACCEPTED,
            Ok(Progress::Accepted { timed_out: true, .. }) => {
                // Left out, the slowest writes would make the others look fast.
                self.duration.record(took);
                TIMED_OUT
            }
            Err(PublishError::NotAccepted(_)) => NOT_ACCEPTED,
            Err(PublishError::OutcomeUnknown(_)) => UNKNOWN,
        };
        self.answers.count(kind);
    }
}

/// Names the command beside the request, whose span this is in: workers know only the command.
fn log(command: &Command, answer: &Result<Progress, PublishError>) {
    let (command_id, message_id) = (command.id, command.message_id());
    if let Ok(Progress::Finished(Outcome::Failed(Failure::DeadLettered))) = answer {
        tracing::warn!(command.id = %command_id, message.id = %message_id, "a write was parked");
    } else {
        tracing::debug!(command.id = %command_id, message.id = %message_id, "a write was answered");
    }
}

fn accepted(command: &Command) -> Progress {
    Progress::Accepted { operation: operation(command), timed_out: false }
}

fn timed_out(command: &Command) -> Progress {
    Progress::Accepted { operation: operation(command), timed_out: true }
}

fn operation(command: &Command) -> OperationId {
    OperationId { command_id: command.id, message_id: command.message_id() }
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
