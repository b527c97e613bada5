//! Writes as commands: submit one, wait for its outcome.

pub(crate) mod broker_clients;
pub(crate) mod pending;

use std::time::Duration;

use broker::{PublishError, Publisher};
use contracts::{Command, Failure, OperationId, Outcome, Problem, ProblemKind};
use telemetry::metrics::{CounterFamily, Gauge, GaugeGuard, Histogram, catalog};
use telemetry::traces::Span;
use tokio::{
    sync::SemaphorePermit,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{error, limit::Limit, spans::RequestTrace};
use pending::Pending;

/// Label values of writes that were answered without an outcome.
const ACCEPTED: &str = "accepted";
const TIMED_OUT: &str = "timed_out";
const NOT_ACCEPTED: &str = "not_accepted";
const OUTCOME_UNKNOWN: &str = "outcome_unknown";

/// Publishes commands and waits for their outcomes.
pub(crate) struct CommandSubmitter {
    publisher: Publisher,
    pending: Pending,
    limit: Limit,
    soft_deadline: CancellationToken,
    metrics: Metrics,
}

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
    /// Allows `max_waiting` commands at a time; more wait for their turn. Waits for outcomes end at the soft deadline.
    pub(crate) fn new(
        publisher: Publisher,
        pending: Pending,
        max_waiting: usize,
        soft_deadline: CancellationToken,
    ) -> Self {
        let limit = Limit::new(max_waiting);
        Self { publisher, pending, limit, soft_deadline, metrics: Metrics::new() }
    }

    /// Publishes a command, then waits. Fails within 2 s if the broker does not confirm, and sooner if too many other
    /// commands are in progress.
    pub(crate) async fn submit(
        &self,
        command: Command,
        wait: Wait,
        trace: &RequestTrace,
    ) -> Result<Submission, Problem> {
        let started = Instant::now();
        let _waiting = GaugeGuard::new(&self.metrics.waiting);
        let Some(turn) = self.limit.turn().await else {
            self.metrics.writes.count(NOT_ACCEPTED);
            let detail = "too many writes are waiting; nothing was written, retry later";
            return Err(Problem::new(ProblemKind::NotAccepted, detail));
        };
        let mut span = trace.publish(&command);
        let result = self.publish_and_wait(&command, wait, started, turn, &mut span).await;
        if let (Some(span), Err(error)) = (&mut span, &result) {
            span.set_error(|| error.to_string());
        }
        self.metrics.record(&result, started.elapsed());
        log(&command, &result);
        result.map_err(|error| error::publish_failed(&error))
    }

    /// Publishes and waits, both counted from `started`. The confirm ends `span`.
    async fn publish_and_wait(
        &self,
        command: &Command,
        wait: Wait,
        started: Instant,
        turn: SemaphorePermit<'_>,
        span: &mut Option<Span>,
    ) -> Result<Submission, PublishError> {
        let publish = || {
            let trace = span.as_ref().and_then(Span::traceparent);
            self.publisher.publish(command, trace, started)
        };
        let Wait::ForOutcome(wait) = wait else {
            publish()?.confirmed().await?;
            return Ok(accepted(command, false));
        };
        let mut waiter = self.pending.wait_for(command.id);
        let publishing = publish()?;
        let deadline = started + wait;
        // The outcome implies the confirm. Only a trace needs to know when it arrived; otherwise
        // this task is not woken for it.
        if span.is_none() {
            let soonest = deadline.min(publishing.deadline());
            tokio::select! {
                biased;
                outcome = waiter.outcome() => return Ok(Submission::Completed(outcome)),
                () = publishing.failed() => {}
                () = sleep_until(soonest) => {}
                () = self.soft_deadline.cancelled() => {}
            }
        }
        tokio::select! {
            // An outcome can overtake the confirm, and says more.
            biased;
            outcome = waiter.outcome() => return Ok(Submission::Completed(outcome)),
            confirmed = publishing.confirmed() => {
                if !confirmed?.reply_expected {
                    return Ok(accepted(command, false));
                }
            }
        }
        *span = None;
        // The broker has the command. If its outcome takes this long, others may have its turn: while workers do nothing,
        // commands are still accepted.
        let mut turn = Some(turn);
        loop {
            tokio::select! {
                biased;
                outcome = waiter.outcome() => return Ok(Submission::Completed(outcome)),
                () = sleep_until(deadline) => return Ok(accepted(command, true)),
                () = self.soft_deadline.cancelled() => return Ok(accepted(command, false)),
                () = sleep_until(publishing.deadline()), if turn.is_some() => turn = None,
            }
        }
    }
}

impl Metrics {
    fn new() -> Self {
        let without_outcome = [ACCEPTED, TIMED_OUT, NOT_ACCEPTED, OUTCOME_UNKNOWN];
        let kinds: Vec<_> = Outcome::KINDS.into_iter().chain(without_outcome).collect();
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
    let operation = OperationId::new(command.id, command.message_id());
    Submission::Accepted { operation, timed_out }
}
