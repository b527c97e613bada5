//! Taking commands from their queue, for the storage worker.

use futures_util::{FutureExt, StreamExt};
use lapin::{
    Acker, Channel, Connection, Consumer,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use telemetry::metrics::{Counter, catalog};
use tokio::{
    sync::watch,
    time::{Duration, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    BrokerUrl, TraceParents,
    connection::{
        BrokerError, Connector, RPC_TIMEOUT, backoff, close_in_background, in_time, lost,
        open_channel,
    },
    headers::{self, redeliveries},
    topology::{COMMANDS, Declares},
};

/// From how many redeliveries on a delivery is suspected of killing its consumers.
const SUSPECT_REDELIVERIES: i64 = 3;

/// The queue of commands, consumed over a connection that never publishes: an alarm would block
/// the acks of one that does.
pub struct CommandSource {
    connector: Connector,
    prefetch: u16,
    link: Option<Link>,
    up: watch::Sender<bool>,
    stop: CancellationToken,
    deliveries: Counter,
    redeliveries: Counter,
}

struct Link {
    connection: Connection,
    channel: Channel,
    consumer: Consumer,
    /// A suspect that came behind others, for the next group.
    held_back: Option<lapin::message::Delivery>,
}

/// The deliveries that were there, oldest first; at least one.
pub struct DeliveryGroup {
    /// What was delivered.
    pub deliveries: Vec<Delivery>,
    last: Acker,
}

/// One delivery: a batch of commands, as it stood in the queue.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// A JSON array of commands, if all is well.
    pub body: Vec<u8>,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// Whether an operator put it back after it was parked.
    pub replayed: bool,
    /// Whether it was delivered so often that it may be what its consumers died of. It then comes
    /// in a group of its own.
    pub suspect: bool,
    /// Where the gateway that published it waits for the outcomes.
    pub reply_to: Option<String>,
    /// The traces that its commands belong to, where those are recorded.
    pub traceparents: TraceParents,
}

impl CommandSource {
    /// A source that connects when it is first asked, and takes at most `prefetch` deliveries that
    /// are not acked yet. It gives nothing more once `stop` is cancelled.
    #[must_use]
    pub fn new(
        url: &BrokerUrl,
        connection_name: &str,
        prefetch: u16,
        stop: CancellationToken,
    ) -> Self {
        let connector = Connector::new(url.with_largest_frames(), connection_name);
        Self {
            connector,
            prefetch,
            link: None,
            up: watch::Sender::new(false),
            stop,
            deliveries: catalog::DELIVERIES.register(),
            redeliveries: catalog::REDELIVERIES.register(),
        }
    }

    /// Whether commands can arrive.
    #[must_use]
    pub fn up(&self) -> watch::Receiver<bool> {
        self.up.subscribe()
    }

    /// The next deliveries, as soon as there is one; `None` once it has been stopped. Connects
    /// again by itself. A group must be acked, or given up, before the next is asked for.
    pub async fn next(&mut self) -> Option<DeliveryGroup> {
        let mut delays = backoff();
        loop {
            if self.stop.is_cancelled() {
                return None;
            }
            match self.take_group().await {
                Ok(group) => {
                    self.count(group.as_ref());
                    return group;
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot consume commands");
                    self.disconnect();
                }
            }
            tokio::select! {
                () = sleep(delays.next().unwrap_or(Duration::from_secs(1))) => {}
                () = self.stop.cancelled() => return None,
            }
        }
    }

    /// Gives back to the queue what was not acked, and ends the connection.
    pub async fn close(mut self) {
        if let Some(link) = self.link.take() {
            // The broker requeues at the connection's end, whichever way that comes.
            let _ = in_time(RPC_TIMEOUT, link.connection.close(200, "OK".into())).await;
        }
    }

    async fn take_group(&mut self) -> Result<Option<DeliveryGroup>, BrokerError> {
        let link = match &mut self.link {
            Some(link) => link,
            none => {
                let link = tokio::select! {
                    link = open(&self.connector, self.prefetch) => link?,
                    () = self.stop.cancelled() => return Ok(None),
                };
                tracing::info!(queue = COMMANDS, "consuming");
                self.up.send_replace(true);
                none.insert(link)
            }
        };
        if let Some(suspect) = link.held_back.take() {
            return Ok(Some(link.group_from(suspect)));
        }
        let first = tokio::select! {
            first = link.consumer.next() => first.ok_or(BrokerError::ConsumerEnded)??,
            () = lost(&link.connection, &link.channel) => return Err(BrokerError::ConsumerEnded),
            () = self.stop.cancelled() => return Ok(None),
        };
        Ok(Some(link.group_from(first)))
    }

    fn count(&self, group: Option<&DeliveryGroup>) {
        let deliveries = group.map(|group| &*group.deliveries).unwrap_or_default();
        let redelivered = deliveries.iter().filter(|delivery| delivery.redelivered).count();
        self.deliveries.increment(deliveries.len() as u64);
        self.redeliveries.increment(redelivered as u64);
    }

    fn disconnect(&mut self) {
        self.up.send_replace(false);
        if let Some(link) = self.link.take() {
            close_in_background(link.connection);
        }
    }
}

impl Link {
    /// The delivery and what has arrived behind it; a fault shows when more is asked for.
    fn group_from(&mut self, first: lapin::message::Delivery) -> DeliveryGroup {
        let mut last = first.acker.clone();
        let mut deliveries = vec![Delivery::from(first)];
        while !deliveries.iter().any(|delivery| delivery.suspect) {
            let Some(Some(Ok(next))) = self.consumer.next().now_or_never() else { break };
            if redeliveries(&next.properties) >= SUSPECT_REDELIVERIES {
                self.held_back = Some(next);
                break;
            }
            last = next.acker.clone();
            deliveries.push(Delivery::from(next));
        }
        DeliveryGroup { deliveries, last }
    }
}

impl DeliveryGroup {
    /// Acks every delivery of the group. Where that fails they are delivered again.
    pub async fn ack(self) {
        // Nothing older than the group is left unacked on its channel.
        let options = BasicAckOptions { multiple: true };
        match in_time(RPC_TIMEOUT, self.last.ack(options)).await {
            Ok(true) => {}
            Ok(false) => tracing::warn!("acks came too late: the channel is gone"),
            Err(error) => tracing::warn!(%error, "cannot ack"),
        }
    }
}

impl From<lapin::message::Delivery> for Delivery {
    fn from(delivery: lapin::message::Delivery) -> Self {
        let redeliveries = redeliveries(&delivery.properties);
        let replayed = headers::replayed(&delivery.properties);
        Self {
            body: delivery.data,
            redelivered: delivery.redelivered || redeliveries > 0 || replayed,
            replayed,
            suspect: redeliveries >= SUSPECT_REDELIVERIES,
            reply_to: delivery.properties.reply_to().as_ref().map(ToString::to_string),
            traceparents: TraceParents::read(&delivery.properties),
        }
    }
}

async fn open(connector: &Connector, prefetch: u16) -> Result<Link, BrokerError> {
    let connection = connector.connect().await?;
    match consume(&connection, prefetch).await {
        Ok((channel, consumer)) => Ok(Link { connection, channel, consumer, held_back: None }),
        Err(error) => {
            close_in_background(connection);
            Err(error)
        }
    }
}

async fn consume(
    connection: &Connection,
    prefetch: u16,
) -> Result<(Channel, Consumer), BrokerError> {
    let channel = open_channel(connection, Declares::Commands).await?;
    let consumer = in_time(RPC_TIMEOUT, async {
        channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
        channel
            .basic_consume(
                COMMANDS.into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await
    })
    .await?;
    Ok((channel, consumer))
}
