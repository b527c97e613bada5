//! The worker's loop: take a delivery group, apply it, dead-letter its poison, ack, reply.

use std::collections::BTreeMap;

use broker::{CommandSource, DeadLetter, DeadLetterPublisher, Delivery, TransientPublisher};
use contracts::{Failure, MAX_CREATE_AGE_DAYS, Outcome, Reply, Timestamp};
use telemetry::{
    metrics::{CounterFamily, Histogram, catalog},
    traces::Tracer,
};
use tokio::time::Instant;
use tracing::Instrument;

use crate::{
    apply::apply_until_done,
    command_store::CommandStore,
    delivery_attempts::apply_one_by_one,
    delivery_group::{ParsedGroup, ReceivedCommand},
    outcomes::{self, Ended},
    retry::{Abandoned, Retry},
};

pub(crate) struct Worker<S> {
    pub(crate) source: CommandSource,
    pub(crate) store: S,
    pub(crate) dead_letters: DeadLetterPublisher,
    pub(crate) replies: TransientPublisher,
    pub(crate) retry: Retry,
    pub(crate) metrics: Metrics,
    pub(crate) tracer: Tracer,
}

pub(crate) struct Metrics {
    queue_latency: Histogram,
    group_commands: Histogram,
    apply_duration: Histogram,
    outcomes: CounterFamily,
}

impl<S: CommandStore> Worker<S> {
    /// Works until the shutdown.
    pub(crate) async fn work(mut self) {
        let creating = async |_| self.store.store().ensure_indexes().await;
        if self.retry.until_done("failed to create the indexes", creating).await.is_ok() {
            while let Some(group) = self.source.next().await {
                let Ok(replies) = self.process(&group.deliveries).await else {
                    tracing::info!(
                        "stopping with unfinished commands; the broker delivers them again"
                    );
                    break;
                };
                tracing::debug!(
                    deliveries = group.deliveries.len(),
                    replies = replies.iter().map(|(_, replies)| replies.len()).sum::<usize>(),
                    "delivery group applied"
                );
                group.ack().await;
                for (reply_to, replies) in replies {
                    self.replies.send(&reply_to, &replies);
                }
            }
        }
        self.source.close().await;
        self.dead_letters.close().await;
    }

    /// Finishes a delivery group, so that it may be acked. Returns the replies for each reply queue.
    async fn process(
        &mut self,
        deliveries: &[Delivery],
    ) -> Result<Vec<(String, Vec<Reply>)>, Abandoned> {
        let (begun, now) = (Instant::now(), Timestamp::now());
        let mut group = ParsedGroup::parse(deliveries, now, &self.tracer);
        self.metrics.record_arrival(&group.commands, now);
        let (store, retry) = (&self.store, &self.retry);
        let applied = if deliveries.iter().any(|delivery| delivery.suspect) {
            apply_one_by_one(store, retry, &group.commands).await?
        } else {
            apply_until_done(store, retry, &group.commands).await?
        };
        let mut ended: Vec<Ended> = Vec::with_capacity(applied.len());
        let too_old = || format!("the create is older than {MAX_CREATE_AGE_DAYS} days");
        let mut poison: Vec<_> =
            group.expired.iter().map(|received| (received, too_old())).collect();
        for (received, result) in applied {
            match result {
                Ok(outcome) => ended.extend(outcome.map(|outcome| (received, outcome))),
                Err(reason) => poison.push((received, reason)),
            }
        }
        for dead_letter in &group.unreadable {
            self.dead_letter(dead_letter).await?;
        }
        for (received, reason) in poison {
            let dead_letter = received.dead_letter(reason);
            self.dead_letter(&dead_letter).instrument(received.log_span()).await?;
            ended.push((received, Outcome::Failed(Failure::DeadLettered)));
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
        Ok(by_queue.collect())
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
