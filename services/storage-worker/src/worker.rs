//! The worker's loop: take a delivery group, apply it, dead-letter its poison, reply, and hand its changes to the log
//! writer, which acks it.

use std::{collections::BTreeMap, sync::Arc};

use broker::{
    CommandSource, DeadLetter, DeadLetterPublisher, Delivery, DeliveryGroup, ReplyPublisher,
};
use contracts::{Failure, Outcome, Reply, Timestamp};
use telemetry::{
    metrics::{CounterFamily, Histogram, catalog},
    traces::Tracer,
};
use tokio::{sync::mpsc, time::Instant};
use tracing::Instrument;

use crate::{
    admission::{Admission, MixedActors, Refusal},
    apply::apply_until_done,
    changes::CommandChange,
    command_store::CommandStore,
    delivery_attempts::apply_one_by_one,
    delivery_group::{ParsedGroup, ReceivedCommand},
    log_writer::{AppliedGroup, LogWriter},
    outcomes::{self, Ended},
    retry::{Abandoned, Retry},
};

pub(crate) struct Worker<S> {
    pub(crate) source: CommandSource,
    pub(crate) store: Arc<S>,
    pub(crate) dead_letters: DeadLetterPublisher,
    pub(crate) replies: ReplyPublisher,
    pub(crate) retry: Retry,
    pub(crate) metrics: Metrics,
    pub(crate) tracer: Tracer,
    /// True if commands without an actor are dead-lettered.
    pub(crate) require_actor: bool,
    pub(crate) mixed_actors: MixedActors,
}

pub(crate) struct Metrics {
    queue_latency: Histogram,
    group_commands: Histogram,
    apply_duration: Histogram,
    outcomes: CounterFamily,
}

/// Result of a delivery group.
struct Processed {
    /// The replies for each reply queue.
    replies: Vec<(String, Vec<Reply>)>,
    /// The changes for the log.
    changes: Vec<CommandChange>,
}

impl<S: CommandStore> Worker<S> {
    /// Works until the shutdown: applies groups, while the log writer appends the changes of those before, and
    /// `trimming` trims the log. At most `prefetch` groups wait for the log.
    pub(crate) async fn work(
        mut self,
        mut log_writer: LogWriter<S>,
        prefetch: u16,
        trimming: impl Future<Output = ()>,
    ) {
        if self.prepare(&mut log_writer).await.is_ok() {
            // Each has a delivery at least, so the broker gives no more.
            let (groups, applied) = mpsc::channel(prefetch.into());
            tokio::join!(self.apply_groups(groups), log_writer.run(applied), trimming);
        }
        self.source.close().await;
        self.dead_letters.close().await;
    }

    async fn prepare(&self, log_writer: &mut LogWriter<S>) -> Result<(), Abandoned> {
        let creating = async |_| self.store.store().ensure_indexes().await;
        self.retry.until_done("failed to create the indexes", creating).await?;
        log_writer.prepare().await
    }

    /// Applies delivery groups and replies, until the shutdown.
    async fn apply_groups(&mut self, groups: mpsc::Sender<AppliedGroup>) {
        while let Some(DeliveryGroup { deliveries, acknowledgement }) = self.source.next().await {
            let Ok(Processed { replies, changes }) = self.process(&deliveries).await else {
                tracing::info!("stopping with unfinished commands; the broker delivers them again");
                break;
            };
            tracing::debug!(
                deliveries = deliveries.len(),
                replies = replies.iter().map(|(_, replies)| replies.len()).sum::<usize>(),
                "delivery group applied"
            );
            for (reply_to, replies) in replies {
                self.replies.send(&reply_to, &replies);
            }
            if groups.send(AppliedGroup { changes, acknowledgement }).await.is_err() {
                // The log writer has given up, because the worker stops.
                break;
            }
        }
    }

    /// Finishes a delivery group, except for its changes' way into the log. Only then may it be acked.
    async fn process(&mut self, deliveries: &[Delivery]) -> Result<Processed, Abandoned> {
        let (begun, now) = (Instant::now(), Timestamp::now());
        let admission = Admission { now, require_actor: self.require_actor };
        let mut group = ParsedGroup::parse(deliveries, admission, &self.tracer);
        self.metrics.record_arrival(&group.commands, now);
        self.warn_of_mixed_actors(&group.commands);
        let (store, retry) = (self.store.as_ref(), &self.retry);
        let applied = if deliveries.iter().any(|delivery| delivery.suspect) {
            apply_one_by_one(store, retry, &group.commands).await?
        } else {
            apply_until_done(store, retry, &group.commands).await?
        };
        let mut ended: Vec<Ended> = Vec::with_capacity(applied.len());
        let (mut poison, mut forged, mut changes) = (Vec::new(), Vec::new(), Vec::new());
        for (received, refusal) in &group.refused {
            let refused = (received, refusal.reason().to_owned());
            match refusal {
                Refusal::Obsolete(_) => {
                    changes.push(CommandChange::remembered(received));
                    poison.push(refused);
                }
                Refusal::Forged(_) => forged.push(refused),
            }
        }
        for (received, result) in applied {
            changes.extend(CommandChange::of(received, &result));
            match result {
                Ok(outcome) => ended.extend(outcome.map(|outcome| (received, outcome))),
                Err(reason) => poison.push((received, reason)),
            }
        }
        for dead_letter in &group.unreadable {
            self.dead_letter(dead_letter).await?;
        }
        ended.extend(self.dead_letter_commands(poison).await?);
        // They have no record, no change and no reply: all of these would be those of the command whose id they bear.
        for (_, outcome) in self.dead_letter_commands(forged).await? {
            self.metrics.outcomes.count(outcome.kind());
        }
        let ended = outcomes::record(self.store.store(), &self.retry, ended).await?;
        let cluster_time = self.store.store().cluster_time();
        let mut replies: BTreeMap<usize, Vec<Reply>> = BTreeMap::new();
        for (received, outcome) in ended {
            self.metrics.outcomes.count(outcome.kind());
            group.spans.end(received.id(), &outcome);
            let of_delivery = replies.entry(received.delivery).or_default();
            let cluster_time = cluster_time.filter(|_| of_delivery.is_empty());
            of_delivery.push(Reply { command_id: received.id(), outcome, cluster_time });
        }
        self.metrics.apply_duration.record(begun.elapsed());
        let by_queue = deliveries.iter().enumerate().filter_map(|(index, delivery)| {
            Some((delivery.reply_to.clone()?, replies.remove(&index)?))
        });
        Ok(Processed { replies: by_queue.collect(), changes })
    }

    fn warn_of_mixed_actors(&mut self, commands: &[ReceivedCommand]) {
        if self.mixed_actors.notice(commands.iter().map(|received| &received.command)) {
            tracing::warn!(
                "applying a command without an actor, though others have one: a gateway runs with AUTH=off, or this is a \
                 command of before. Once all gateways have AUTH=jwt, set REQUIRE_ACTOR=true"
            );
        }
    }

    /// Dead-letters commands for these reasons. Returns their outcome.
    async fn dead_letter_commands<'a>(
        &mut self,
        poison: Vec<(&'a ReceivedCommand, String)>,
    ) -> Result<Vec<Ended<'a>>, Abandoned> {
        let mut ended = Vec::with_capacity(poison.len());
        for (received, reason) in poison {
            let dead_letter = received.dead_letter(reason);
            self.dead_letter(&dead_letter).instrument(received.log_span()).await?;
            ended.push((received, Outcome::Failed(Failure::DeadLettered)));
        }
        Ok(ended)
    }

    async fn dead_letter(&mut self, dead_letter: &DeadLetter) -> Result<(), Abandoned> {
        if self.dead_letters.publish(dead_letter).await { Ok(()) } else { Err(Abandoned) }
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            queue_latency: catalog::QUEUE_LATENCY.register(),
            group_commands: catalog::APPLY_GROUP_COMMANDS.register(),
            apply_duration: catalog::APPLY_DURATION.register(),
            outcomes: catalog::COMMANDS.family("outcome", &Outcome::KINDS),
        }
    }

    /// Records the commands of a delivery group that arrived now.
    fn record_arrival(&self, commands: &[ReceivedCommand], now: Timestamp) {
        #[expect(clippy::cast_precision_loss, reason = "no group is as large as that")]
        self.group_commands.record(commands.len() as f64);
        for received in commands {
            self.queue_latency.record(received.command.issued_at.elapsed_until(now));
        }
    }
}
