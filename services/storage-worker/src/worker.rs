//! The worker's loop: take what is there, apply it, set aside what can't be, ack, answer.

use std::{
    collections::HashMap,
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
};

use broker::{Backoff, CommandSource, DeadLetterPublisher, Delivery, ReplyPublisher};
use contracts::{CommandId, Failure, MessageId, Outcome, Reply, Timestamp};
use service::Phases;
use store::{AttemptId, RecordedOutcome, StoreError};
use telemetry::traces::Tracer;
use tokio::{sync::watch, time::Instant};
use tracing::Instrument;

use crate::{
    apply::{Applied, Redelivery, apply, ended_before},
    batch::{Batch, Poison, ReceivedCommand},
    command_store::CommandStore,
    metrics::Metrics,
    spans,
};

pub(crate) struct Worker<S> {
    pub(crate) source: CommandSource,
    pub(crate) store: S,
    pub(crate) dead_letters: DeadLetterPublisher,
    pub(crate) replies: ReplyPublisher,
    /// Whether the last write was done; false while commands are held.
    pub(crate) progress: watch::Sender<bool>,
    pub(crate) phases: Phases,
    pub(crate) metrics: Metrics,
    pub(crate) traces: Tracer,
}

/// How often a command that may have killed a worker is tried.
const MAX_ATTEMPTS: u32 = 2;

/// A command that came to its end, and what to answer.
struct Finished {
    received: ReceivedCommand,
    result: Outcome,
}

/// Stopping came before the group was done. It stays with the broker.
struct Abandoned;

impl<S: CommandStore> Worker<S> {
    /// Works until the shutdown.
    pub(crate) async fn work(mut self) {
        if self.make_indexes().await.is_ok() {
            while let Some(group) = self.source.next().await {
                let Ok(outcomes) = self.finish(&group.deliveries).await else {
                    tracing::info!("stopping with commands in hand; they are delivered again");
                    break;
                };
                tracing::debug!(
                    deliveries = group.deliveries.len(),
                    answered = outcomes.iter().map(|(_, outcomes)| outcomes.len()).sum::<usize>(),
                    "applied"
                );
                group.ack().await;
                for (reply_to, outcomes) in outcomes {
                    self.replies.send(&reply_to, &outcomes);
                }
            }
        }
        self.source.close().await;
    }

    async fn make_indexes(&self) -> Result<(), Abandoned> {
        let store = self.store.clone();
        self.until_stored("cannot make the indexes", async || store.ensure_indexes().await).await
    }

    /// Brings a group to its end, so that it may be acked, and gives the outcomes to answer with.
    async fn finish(
        &mut self,
        deliveries: &[Delivery],
    ) -> Result<Vec<(String, Vec<Reply>)>, Abandoned> {
        let (begun, now) = (Instant::now(), Timestamp::now());
        let batch = Batch::read(deliveries, now, &self.traces);
        self.metrics.arrived(&batch, now);
        let applied = if deliveries.iter().any(|delivery| delivery.suspect) {
            self.apply_suspects(&batch.commands).await?
        } else {
            self.apply(&batch.commands).await?
        };
        let mut finished = Vec::with_capacity(applied.len());
        let mut poison = batch.poison;
        for (received, result) in batch.commands.into_iter().zip(applied) {
            match result {
                Applied::Done(result) => finished.push(Finished { received, result }),
                Applied::DoneBefore => {}
                Applied::Impossible(reason) => poison.push(Poison::command(received, reason)),
            }
        }
        for Poison { letter, command } in poison {
            let named = command.as_ref().map_or_else(tracing::Span::none, spans::log_span);
            if !self.dead_letters.publish(&letter).instrument(named).await {
                return Err(Abandoned);
            }
            let dead = Outcome::Failed(Failure::DeadLettered);
            finished.extend(command.map(|received| Finished { received, result: dead }));
        }
        let mut finished = self.record_outcomes(finished).await?;
        for done in &mut finished {
            self.metrics.ended(&done.result);
            spans::ended(done.received.span.take(), &done.result);
        }
        self.metrics.apply_duration.record(begun.elapsed());
        Ok(outcomes_by_delivery(deliveries, finished))
    }

    async fn apply(&self, commands: &[ReceivedCommand]) -> Result<Vec<Applied>, Abandoned> {
        let tried = AtomicBool::new(false);
        let applying = async || {
            // Meanwhile the broker may have given them to another worker, too, which has ended them.
            let delivered = if tried.swap(true, Ordering::Relaxed) {
                Redelivery::Possible
            } else {
                Redelivery::Flagged
            };
            apply(&self.store, commands, delivered).await
        };
        self.until_stored("holding commands", applying).await
    }

    /// Applies commands of which one may have killed a worker: one at a time, each try counted
    /// before it begins. One whose tries all ended with the worker's death is not tried again. One that
    /// has ended is not tried either, and above all not parked a second time: only its ack was lost.
    async fn apply_suspects(
        &self,
        commands: &[ReceivedCommand],
    ) -> Result<Vec<Applied>, Abandoned> {
        let mut results = Vec::with_capacity(commands.len());
        let mut harmless = Vec::with_capacity(commands.len());
        let look = async || ended_before(&self.store, commands, Redelivery::Flagged).await;
        let ended_before = self.until_stored("cannot look up endings", look).await?;
        for received in commands {
            if let Some(ending) = ended_before.get(&received.id()) {
                results.push(Applied::from(*ending));
                harmless.push(received.id());
                continue;
            }
            let (id, attempt) = (received.id(), AttemptId::generate());
            let count = async || self.store.record_attempt(id, attempt).await;
            let attempts = self.until_stored("cannot count", count).await?;
            if attempts > MAX_ATTEMPTS {
                let reason = format!("each of {MAX_ATTEMPTS} attempts to apply it killed a worker");
                results.push(Applied::Impossible(reason));
                continue;
            }
            results.extend(self.try_suspect(received, attempt).await?);
            if attempts > 0 {
                // At once: the next one may be the killer, and this one would be suspected with it.
                let survived = async || self.store.record_success(id).await;
                self.until_stored("cannot note a survival", survived).await?;
            }
            harmless.push(id);
        }
        let clear = async || self.store.clear_delivery_attempts(&harmless).await;
        self.until_stored("cannot clear", clear).await?;
        Ok(results)
    }

    /// Applies one suspect. A try in which MongoDB fails does not count any more: it goes on for as
    /// long as the outage does, and workers that are killed meanwhile were killed by others.
    async fn try_suspect(
        &self,
        received: &ReceivedCommand,
        attempt: AttemptId,
    ) -> Result<Vec<Applied>, Abandoned> {
        let id = received.id();
        let mut progress = self.progress.subscribe();
        let mut applying = pin!(self.apply(std::slice::from_ref(received)));
        tokio::select! {
            applied = applying.as_mut() => return applied,
            _ = progress.wait_for(|progress| !progress) => {}
        }
        let withdraw = async || self.store.withdraw_attempt(id, attempt).await;
        let withdrawing = async {
            self.until_stored("cannot withdraw a count", withdraw).await?;
            spans::log_span(received).in_scope(|| {
                tracing::info!("a suspect waits for MongoDB; it is innocent so far");
            });
            Ok(())
        };
        let (applied, ()) = tokio::try_join!(applying, withdrawing)?;
        Ok(applied)
    }

    /// Records what left no trace in its message. Where another ending of a command was recorded
    /// before, that one stands.
    async fn record_outcomes(&self, finished: Vec<Finished>) -> Result<Vec<Finished>, Abandoned> {
        let ended: Vec<(CommandId, MessageId, RecordedOutcome)> = finished
            .iter()
            .filter_map(|done| {
                let ending = ending(&done.result)?;
                Some((done.received.id(), done.received.command.message_id, ending))
            })
            .collect();
        self.forget_parking(&finished).await?;
        let store = self.store.clone();
        let recorded: HashMap<CommandId, RecordedOutcome> = self
            .until_stored("cannot record endings", async || store.record_outcomes(&ended).await)
            .await?;
        let stands = finished.into_iter().filter_map(|done| {
            let recorded = recorded.get(&done.received.id()).copied();
            if recorded.is_some_and(|ending| !done.received.stands(ending)) {
                return Some(done);
            }
            let result = match (recorded, ending(&done.result)) {
                (Some(RecordedOutcome::Failed(failure)), Some(_)) => Outcome::Failed(failure),
                (recorded, ending) if recorded == ending => done.result,
                // It had succeeded before, in a way that can't be told any more.
                _ => return None,
            };
            Some(Finished { result, ..done })
        });
        Ok(stands.collect())
    }

    /// What was parked, put back and came to another end is dead-lettered no longer.
    async fn forget_parking(&self, finished: &[Finished]) -> Result<(), Abandoned> {
        let dead = Outcome::Failed(Failure::DeadLettered);
        let revived: Vec<CommandId> = finished
            .iter()
            .filter(|done| done.received.replayed && done.result != dead)
            .map(|done| done.received.id())
            .collect();
        if revived.is_empty() {
            return Ok(());
        }
        let forget = async || self.store.forget_dead_lettered(&revived).await;
        self.until_stored("cannot forget a parking", forget).await
    }

    /// Tries until MongoDB has done it: an outage dead-letters nothing. Stopping ends a wait at
    /// once, since what is not acked is delivered again.
    async fn until_stored<T>(
        &self,
        what: &'static str,
        operation: impl AsyncFn() -> Result<T, StoreError>,
    ) -> Result<T, Abandoned> {
        let mut backoff = Backoff::default();
        loop {
            let result = tokio::select! {
                result = operation() => result,
                () = self.phases.hard_deadline.cancelled() => return Err(Abandoned),
            };
            match result {
                Ok(done) => {
                    self.progress.send_if_modified(|progress| !std::mem::replace(progress, true));
                    return Ok(done);
                }
                Err(error) => {
                    self.progress.send_replace(false);
                    self.metrics.retries.increment(1);
                    tracing::warn!(%error, "{what}, trying again");
                }
            }
            tokio::select! {
                () = backoff.pause() => {}
                () = self.phases.draining.cancelled() => return Err(Abandoned),
            }
        }
    }
}

/// What to record of a result; nothing where the message remembers the command.
fn ending(result: &Outcome) -> Option<RecordedOutcome> {
    match result {
        Outcome::Failed(failure) => Some(RecordedOutcome::Failed(*failure)),
        Outcome::Replayed(_) => Some(RecordedOutcome::Replayed),
        Outcome::Superseded(_) => Some(RecordedOutcome::Superseded),
        Outcome::Created
        | Outcome::Edited(_)
        | Outcome::EditedThenDeleted { .. }
        | Outcome::Deleted => None,
    }
}

fn outcomes_by_delivery(
    deliveries: &[Delivery],
    finished: Vec<Finished>,
) -> Vec<(String, Vec<Reply>)> {
    let mut outcomes: Vec<Vec<Reply>> = deliveries.iter().map(|_| Vec::new()).collect();
    for Finished { received, result } in finished {
        if let Some(outcomes) = outcomes.get_mut(received.delivery) {
            outcomes.push(Reply { command_id: received.id(), outcome: result });
        }
    }
    let answered = deliveries.iter().zip(outcomes).filter_map(|(delivery, outcomes)| {
        let reply_to = delivery.reply_to.clone()?;
        (!outcomes.is_empty()).then_some((reply_to, outcomes))
    });
    answered.collect()
}
