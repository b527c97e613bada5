//! A lane: one task, one pooled connection, one channel, one publish in flight.
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

use contracts::{MAX_BATCH_BYTES, MAX_BATCH_COMMANDS};
use deadpool_lapin::Connection as PooledConnection;
use lapin::{
    BasicProperties, Channel, Confirmation,
    options::BasicPublishOptions,
    types::{FieldTable, ShortString},
};
use telemetry::metrics::{CounterFamily, Gauge, Histogram, catalog};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    connection::{
        BrokerError, CONNECTION_CHECK_INTERVAL, ConnectionPool, backoff, close_in_background, lost,
        open_confirming_channel,
    },
    headers::TRACEPARENT,
    pending_publish::{PendingPublish, TakenCommand},
    publisher::{Confirmed, PublishError},
    topology::{COMMANDS, PERSISTENT},
    traceparents::{MAX_TRACED_COMMANDS, TraceParents},
};

/// How long the broker may take to confirm before the lane is retired.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) struct PublishConnection {
    pub(crate) number: usize,
    pub(crate) pool: ConnectionPool,
    pub(crate) tickets: async_channel::Receiver<PendingPublish>,
    pub(crate) reply_to: watch::Receiver<Option<String>>,
    pub(crate) gauge: LaneGauge,
    pub(crate) metrics: LaneMeasures,
    pub(crate) stop: CancellationToken,
}

/// Counts the publish connections that can publish.
#[derive(Clone)]
pub(crate) struct LaneGauge {
    open: Arc<AtomicUsize>,
    up: Arc<watch::Sender<bool>>,
    exported: Gauge,
}

/// What publish connections measure, once for each batch.
#[derive(Clone)]
pub(crate) struct LaneMeasures {
    confirm_duration: Histogram,
    batch_commands: Histogram,
    batches: CounterFamily,
}

/// Why a lane stopped publishing on its channel.
enum End {
    /// There is nothing left to publish, for good.
    Closed,
    /// The channel cannot be trusted any more.
    Retired,
}

struct OpenLane {
    connection: PooledConnection,
    channel: Channel,
}

impl LaneGauge {
    pub(crate) fn new() -> (Self, watch::Receiver<bool>) {
        let (up, receiver) = watch::channel(false);
        let exported = catalog::PUBLISH_CONNECTIONS_OPEN.register();
        (Self { open: Arc::default(), up: Arc::new(up), exported }, receiver)
    }

    fn opened(&self) {
        self.open.fetch_add(1, Ordering::AcqRel);
        self.exported.increment(1.0);
        self.up.send_replace(true);
    }

    fn retired(&self) {
        let before = self.open.fetch_sub(1, Ordering::AcqRel);
        self.exported.decrement(1.0);
        self.up.send_replace(before > 1);
    }
}

impl LaneMeasures {
    pub(crate) fn new() -> Self {
        const RESULTS: [&str; 6] =
            ["confirmed", "blocked", "refused", "unroutable", "lost", "silent"];
        Self {
            confirm_duration: catalog::PUBLISH_CONFIRM_DURATION.register(),
            batch_commands: catalog::PUBLISH_BATCH_COMMANDS.register(),
            batches: catalog::PUBLISH_BATCHES.family("result", &RESULTS),
        }
    }
}

impl PublishConnection {
    /// Publishes until the queue is closed and empty, building itself anew after every fault.
    pub(crate) async fn run(self) {
        let mut delays = backoff();
        loop {
            let opened = tokio::select! {
                opened = self.open() => opened,
                () = self.stop.cancelled() => return,
            };
            match opened {
                Ok(open) => {
                    delays = backoff();
                    self.gauge.opened();
                    let end = self.publish_batches(&open).await;
                    self.gauge.retired();
                    self.retire(open).await;
                    if matches!(end, End::Closed) {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(lane = self.number, %error, "cannot open a publish lane");
                }
            }
            // Commands wait in the queue meanwhile: each has its own deadline there.
            let delay = delays.next().unwrap_or(CONFIRM_TIMEOUT);
            tokio::select! {
                () = sleep(delay) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    async fn open(&self) -> Result<OpenLane, BrokerError> {
        let connection = self.pool.get().await?;
        match open_confirming_channel(&connection).await {
            Ok(channel) => {
                tracing::info!(lane = self.number, "publish lane open");
                Ok(OpenLane { connection, channel })
            }
            Err(error) => {
                close_in_background(PooledConnection::take(connection));
                Err(error)
            }
        }
    }

    async fn publish_batches(&self, open: &OpenLane) -> End {
        // The first command that did not fit into the batch before.
        let mut left_over = None;
        loop {
            let first = if let Some(ticket) = left_over.take() {
                ticket
            } else {
                tokio::select! {
                    received = self.tickets.recv() => match received {
                        Ok(ticket) => ticket,
                        Err(_) => return End::Closed,
                    },
                    () = lost(&open.connection, &open.channel) => return End::Retired,
                }
            };
            let batch = gather(&self.tickets, first, &mut left_over);
            if batch.is_empty() {
                continue;
            }
            let (result, channel_is_good) = self.publish(open, &batch).await;
            for command in batch {
                command.answer(result.clone());
            }
            if !channel_is_good {
                if let Some(ticket) = left_over {
                    ticket.refuse("the broker is not answering");
                }
                return End::Retired;
            }
        }
    }

    /// What the broker says to a batch, and whether the lane may go on.
    async fn publish(
        &self,
        open: &OpenLane,
        batch: &[TakenCommand],
    ) -> (Result<Confirmed, PublishError>, bool) {
        if open.connection.status().blocked() {
            self.metrics.batches.count("blocked");
            let error = PublishError::NotAccepted("the broker is blocked by an alarm");
            return (Err(error), true);
        }
        let body = json_array(batch);
        let reply_to = self.reply_to.borrow().clone();
        let confirmed = Confirmed { reply_expected: reply_to.is_some() };
        let publishing = async {
            let confirm = open
                .channel
                .basic_publish(
                    COMMANDS.into(),
                    COMMANDS.into(),
                    BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() },
                    &body,
                    properties(reply_to, &traceparents(batch)),
                )
                .await?;
            confirm.await
        };
        let begun = Instant::now();
        let answer = timeout(CONFIRM_TIMEOUT, publishing).await;
        #[expect(clippy::cast_precision_loss, reason = "a batch has 256 commands at most")]
        self.metrics.batch_commands.record(batch.len() as f64);
        let (what, result, channel_is_good) = match answer {
            Ok(Ok(Confirmation::Ack(None))) => {
                self.metrics.confirm_duration.record(begun.elapsed());
                ("confirmed", Ok(confirmed), true)
            }
            Ok(Ok(Confirmation::Nack(_))) => {
                let why = "the queue of commands is full";
                ("refused", Err(PublishError::NotAccepted(why)), true)
            }
            // The broker also acks what it could not route; the return says that it is gone. A new
            // lane declares the queue anew.
            Ok(Ok(Confirmation::Ack(Some(_)))) => {
                tracing::error!(lane = self.number, "the queue of commands is missing");
                let why = "the broker has no queue for commands";
                ("unroutable", Err(PublishError::NotAccepted(why)), false)
            }
            Ok(Ok(Confirmation::NotRequested)) => {
                let why = "the channel does not confirm";
                ("lost", Err(PublishError::OutcomeUnknown(why)), false)
            }
            Ok(Err(error)) => {
                tracing::warn!(lane = self.number, %error, "publish failed, retiring the lane");
                let why = "the connection to the broker was lost";
                ("lost", Err(PublishError::OutcomeUnknown(why)), false)
            }
            Err(_) => {
                tracing::warn!(lane = self.number, "no confirm in time, retiring the lane");
                let why = "the broker did not confirm in time";
                ("silent", Err(PublishError::OutcomeUnknown(why)), false)
            }
        };
        self.metrics.batches.count(what);
        (result, channel_is_good)
    }

    /// Gives the connection up. One that an alarm blocks is kept until the alarm is over: a fresh
    /// one would only hang again, and what waits is refused at once meanwhile.
    async fn retire(&self, open: OpenLane) {
        while open.connection.status().blocked() && open.connection.status().connected() {
            while let Ok(ticket) = self.tickets.try_recv() {
                ticket.refuse("the broker is blocked by an alarm");
            }
            tokio::select! {
                () = sleep(CONNECTION_CHECK_INTERVAL) => {}
                () = self.stop.cancelled() => break,
            }
        }
        close_in_background(PooledConnection::take(open.connection));
    }
}

/// Takes what is there, up to the limits of one delivery, without waiting for more.
fn gather(
    tickets: &async_channel::Receiver<PendingPublish>,
    first: PendingPublish,
    left_over: &mut Option<PendingPublish>,
) -> Vec<TakenCommand> {
    let (mut bytes, mut traced) = (2, 0);
    let mut batch = Vec::new();
    let mut next = Some(first);
    while let Some(ticket) = next {
        // One comma each.
        let with_ticket = bytes + ticket.bytes + 1;
        let traced_with_ticket = traced + usize::from(ticket.traced);
        let is_full = with_ticket > MAX_BATCH_BYTES || traced_with_ticket > MAX_TRACED_COMMANDS;
        if !batch.is_empty() && is_full {
            *left_over = Some(ticket);
            break;
        }
        if let Some(command) = ticket.take() {
            (bytes, traced) = (with_ticket, traced_with_ticket);
            batch.push(command);
        }
        if batch.len() == MAX_BATCH_COMMANDS {
            break;
        }
        next = tickets.try_recv().ok();
    }
    batch
}

fn properties(reply_to: Option<String>, traceparents: &TraceParents) -> BasicProperties {
    let mut properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type("application/json".into())
        // Names the delivery to an operator, should the broker dead-letter it.
        .with_message_id(Uuid::now_v7().to_string().into());
    if let Some(value) = traceparents.header() {
        let mut headers = FieldTable::default();
        headers.insert(TRACEPARENT.into(), value);
        properties = properties.with_headers(headers);
    }
    match reply_to {
        Some(queue) => properties.with_reply_to(ShortString::from(queue)),
        // Outcomes are then read off the store.
        None => properties,
    }
}

fn traceparents(batch: &[TakenCommand]) -> TraceParents {
    let places = || batch.iter().map(|command| command.publication.traceparent);
    if places().any(|place| place.is_some()) { places().collect() } else { TraceParents::default() }
}

fn json_array(batch: &[TakenCommand]) -> Vec<u8> {
    let commands_bytes: usize =
        batch.iter().map(|command| command.publication.json.len() + 1).sum();
    let mut body = Vec::with_capacity(commands_bytes + 2);
    body.push(b'[');
    for (index, command) in batch.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&command.publication.json);
    }
    body.push(b']');
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pending_publish::Publication;

    /// The sizes of the batches that these commands make: their bytes, and whether they are traced.
    fn batches(commands: impl Iterator<Item = (usize, bool)>) -> Vec<usize> {
        let (queue, tickets) = async_channel::unbounded();
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        // What nobody waits for is not published.
        let mut requesters = Vec::new();
        for (bytes, traced) in commands {
            let traceparent = traced.then(|| parent.parse().unwrap());
            let (ticket, publishing) =
                PendingPublish::new(Publication { json: vec![b' '; bytes], traceparent });
            queue.try_send(ticket).unwrap();
            requesters.push(publishing);
        }
        let (mut sizes, mut left_over) = (Vec::new(), None);
        while let Some(first) = left_over.take().or_else(|| tickets.try_recv().ok()) {
            sizes.push(gather(&tickets, first, &mut left_over).len());
        }
        sizes
    }

    #[test]
    fn a_batch_keeps_to_the_limits_of_a_delivery() {
        assert_eq!(batches((0..600).map(|_| (10, false))), [256, 256, 88]);
        assert_eq!(
            batches([600_000, 600_000, 10, 2_000_000, 10].map(|bytes| (bytes, false)).into_iter()),
            [1, 2, 1, 1]
        );
    }

    #[test]
    fn no_batch_has_more_traces_than_fit_into_a_frame() {
        assert_eq!(batches((0..120).map(|_| (10, true))), [50, 50, 20]);
        // Those between them take no room.
        assert_eq!(batches((0..120).map(|number| (10, number % 2 == 0))), [100, 20]);
    }
}
