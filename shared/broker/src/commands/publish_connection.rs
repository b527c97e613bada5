//! A publish connection: one task, one pooled connection, one channel, one publish in flight.
//!
//! While a publish waits for its confirm, commands gather; the next publish takes them all. So a
//! lone command waits for nobody, and a flood costs the broker one publish for hundreds. One
//! publish in flight also means that a confirm or a return can only be that publish's.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use lapin::{Confirmation, types::FieldTable};
use telemetry::{
    OutageLog,
    metrics::{CounterFamily, Gauge, Histogram, catalog},
};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    batch::Batch,
    pending_publish::{Confirmed, PendingPublish, PublishError, PublishResult},
};
use crate::{
    alarms::{Alarms, PROBE_INTERVAL},
    backoff::Backoff,
    channel::{CHECK_INTERVAL, persistent_json, publish_confirmed, publish_probe},
    connection::{ConnectionPool, in_time},
    error::BrokerError,
    publish_channel::PublishChannel,
    topology::{COMMANDS, Purpose},
};

/// Maximum time for the confirm of a batch.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) struct PublishConnection {
    pub(crate) number: usize,
    pub(crate) shared: Arc<Shared>,
}

/// State and metrics that the publish connections of one publisher share.
pub(crate) struct Shared {
    pool: ConnectionPool,
    /// Number of publish connections.
    connections: usize,
    pub(crate) queue: async_channel::Receiver<PendingPublish>,
    reply_to: watch::Receiver<Option<String>>,
    pub(crate) alarms: Alarms,
    outage: OutageLog,
    pub(crate) stop: CancellationToken,
    /// True while at least one of them can publish.
    pub(crate) up: watch::Sender<bool>,
    /// False after the queue of commands refused a batch, until it takes one or nobody has tried for
    /// [`PROBE_INTERVAL`].
    pub(crate) queue_has_room: watch::Sender<bool>,
    /// Number of open ones. Changes only under the lock of `up`.
    open: AtomicUsize,
    open_gauge: Gauge,
    confirm_duration: Histogram,
    batch_commands: Histogram,
    batches: CounterFamily,
}

impl Shared {
    pub(crate) fn new(
        pool: ConnectionPool,
        connections: usize,
        queue: async_channel::Receiver<PendingPublish>,
        reply_to: watch::Receiver<Option<String>>,
    ) -> Self {
        let results = ["confirmed", "blocked", "refused", "unroutable", "lost", "timeout"];
        Self {
            pool,
            connections,
            queue,
            reply_to,
            alarms: Alarms::default(),
            outage: OutageLog::new("publish commands on each publish connection"),
            stop: CancellationToken::new(),
            up: watch::Sender::new(false),
            queue_has_room: watch::Sender::new(true),
            open: AtomicUsize::new(0),
            open_gauge: catalog::PUBLISH_CONNECTIONS_OPEN.register(),
            confirm_duration: catalog::PUBLISH_CONFIRM_DURATION.register(),
            batch_commands: catalog::PUBLISH_BATCH_COMMANDS.register(),
            batches: catalog::PUBLISH_BATCHES.family("result", &results),
        }
    }

    fn opened(&self) {
        self.open_gauge.increment(1.0);
        self.up.send_modify(|up| {
            let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
            *up = true;
            if open == self.connections && !self.outage.succeeded() {
                tracing::info!(connections = open, "all publish connections are open");
            }
        });
    }

    fn set_queue_has_room(&self, has_room: bool) {
        self.queue_has_room
            .send_if_modified(|current| std::mem::replace(current, has_room) != has_room);
    }

    fn ended(&self) {
        self.open_gauge.decrement(1.0);
        self.up.send_modify(|up| *up = self.open.fetch_sub(1, Ordering::Relaxed) > 1);
    }
}

impl PublishConnection {
    /// Publishes until the queue is closed and empty. Connects again after every fault.
    pub(crate) async fn run(self) {
        let mut backoff = Backoff::default();
        loop {
            let Shared { pool, alarms, .. } = &*self.shared;
            let opening = PublishChannel::open(pool, Purpose::PublishCommands, alarms);
            let Some(opened) = self.shared.stop.run_until_cancelled(opening).await else { return };
            match opened {
                Ok(channel) => {
                    backoff = Backoff::default();
                    tracing::debug!(publish_connection = self.number, "publish connection open");
                    self.shared.opened();
                    let published = self.publish_batches(&channel).await;
                    self.shared.ended();
                    let Err(error) = published else { return channel.close().await };
                    self.shared.outage.failed(&error);
                    self.wait_for_end_of_alarm(&channel).await;
                    channel.give_back(&error);
                }
                Err(error) => self.shared.outage.failed(&error),
            }
            // Commands wait in the queue meanwhile: each has its own deadline there.
            if self.shared.stop.run_until_cancelled(backoff.pause()).await.is_none() {
                return;
            }
        }
    }

    /// Publishes until the queue is closed and empty, or the channel cannot be trusted any more.
    async fn publish_batches(&self, channel: &PublishChannel) -> Result<(), BrokerError> {
        let mut left_over = None;
        let mut probes = interval_at(Instant::now() + PROBE_INTERVAL, PROBE_INTERVAL);
        probes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next = match left_over.take() {
                None => tokio::select! {
                    received = self.shared.queue.recv() => received.ok(),
                    () = channel.lost() => return Err(BrokerError::Lost),
                    _ = probes.tick() => {
                        self.shared.set_queue_has_room(true);
                        if !channel.is_blocked() {
                            let probing = publish_probe(&channel.channel, COMMANDS);
                            in_time(CONFIRM_TIMEOUT, probing).await?;
                        }
                        continue;
                    }
                },
                left_over => left_over,
            };
            let Some(first) = next else { return Ok(()) };
            let batch;
            (batch, left_over) = Batch::gather(&self.shared.queue, first);
            if batch.len() == 0 {
                continue;
            }
            let (result, fault) = self.publish(channel, &batch).await;
            batch.end(&result);
            if let Some(error) = fault {
                if let Some(pending) = left_over {
                    pending.refuse("the broker is not answering");
                }
                return Err(error);
            }
        }
    }

    /// Publishes a batch. Also returns the fault after which the channel cannot be trusted.
    async fn publish(
        &self,
        channel: &PublishChannel,
        batch: &Batch,
    ) -> (PublishResult, Option<BrokerError>) {
        if channel.is_blocked() {
            self.shared.batches.count("blocked");
            let error = PublishError::NotAccepted("the broker is blocked by an alarm");
            return (Err(error), None);
        }
        let reply_to = self.shared.reply_to.borrow().clone();
        let confirmed = Confirmed { reply_expected: reply_to.is_some() };
        let mut properties = persistent_json(FieldTable::default(), &batch.traceparents);
        // Without a reply queue, outcomes are read from the store.
        if let Some(queue) = reply_to {
            properties = properties.with_reply_to(queue.into());
        }
        let publishing = publish_confirmed(&channel.channel, COMMANDS, &batch.body, properties);
        let begun = Instant::now();
        let confirmation = in_time(CONFIRM_TIMEOUT, publishing).await;
        #[expect(clippy::cast_precision_loss, reason = "a batch has 256 commands at most")]
        self.shared.batch_commands.record(batch.len() as f64);
        let not_accepted = |why| Err(PublishError::NotAccepted(why));
        let outcome_unknown = |why| Err(PublishError::OutcomeUnknown(why));
        let (label, result, fault) = match confirmation {
            Ok(Confirmation::Ack(None)) => {
                self.shared.confirm_duration.record(begun.elapsed());
                self.shared.set_queue_has_room(true);
                ("confirmed", Ok(confirmed), None)
            }
            Ok(Confirmation::Nack(_)) => {
                self.shared.set_queue_has_room(false);
                ("refused", not_accepted("the queue of commands is full"), None)
            }
            // A new channel declares the queue anew.
            Ok(Confirmation::Ack(Some(_))) => {
                let result = not_accepted("the broker has no queue for commands");
                ("unroutable", result, Some(BrokerError::Unroutable))
            }
            Ok(Confirmation::NotRequested) => {
                let result = outcome_unknown("the channel does not confirm");
                ("lost", result, Some(BrokerError::NotAccepted))
            }
            Err(BrokerError::Timeout) => {
                let result = outcome_unknown("the broker did not confirm in time");
                ("timeout", result, Some(BrokerError::Timeout))
            }
            Err(error) => {
                ("lost", outcome_unknown("the connection to the broker was lost"), Some(error))
            }
        };
        self.shared.batches.count(label);
        (result, fault)
    }

    /// Refuses commands while an alarm blocks the connection: a fresh connection would hang, too.
    async fn wait_for_end_of_alarm(&self, channel: &PublishChannel) {
        while channel.is_blocked() {
            while let Ok(pending) = self.shared.queue.try_recv() {
                pending.refuse("the broker is blocked by an alarm");
            }
            if self.shared.stop.run_until_cancelled(sleep(CHECK_INTERVAL)).await.is_none() {
                return;
            }
        }
    }
}
