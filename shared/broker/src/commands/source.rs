//! Taking commands from their queue, for the storage worker.

use futures_util::{FutureExt, StreamExt};
use lapin::{
    Acker, Channel, Connection, Consumer,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use telemetry::{
    OutageLog, error_chain,
    metrics::{Counter, catalog},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::Backoff,
    channel::{lost, open_channel},
    connection::{Connector, RPC_TIMEOUT, close, in_time},
    error::BrokerError,
    headers::{self, redeliveries},
    topology::{COMMANDS, Purpose},
    traceparents::TraceParents,
    url::BrokerUrl,
};

/// Number of redeliveries from which on a delivery is suspected of killing its consumers.
const SUSPECT_REDELIVERIES: i64 = 3;

/// The queue of commands, consumed over a connection that never publishes: an alarm would block
/// the acks of one that does.
pub struct CommandSource {
    connector: Connector,
    prefetch: u16,
    link: Option<Link>,
    up: watch::Sender<bool>,
    outage: OutageLog,
    stop: CancellationToken,
    deliveries: Counter,
    redeliveries: Counter,
}

struct Link {
    connection: Connection,
    channel: Channel,
    consumer: Consumer,
    /// A suspect delivery that came behind others, for the next group.
    held_back: Option<lapin::message::Delivery>,
}

/// The deliveries that a worker takes and acks together.
pub struct DeliveryGroup {
    /// At least one, the oldest first.
    pub deliveries: Vec<Delivery>,
    /// Acks all of them.
    pub acknowledgement: Acknowledgement,
}

/// The acknowledgement of a delivery group. If it is dropped, the broker delivers the group again once its channel ends.
pub struct Acknowledgement {
    last: Acker,
}

/// A batch of commands, as it stood in the queue.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// A JSON array of commands, if all is well.
    pub body: Vec<u8>,
    /// True if it may have been delivered before.
    pub redelivered: bool,
    /// True for a dead letter that an operator replayed.
    pub replayed: bool,
    /// True if it was delivered so often that it may have killed its consumers. Its group has no
    /// other delivery.
    pub suspect: bool,
    /// The queue on which its gateway waits for replies.
    pub reply_to: Option<String>,
    /// The traces of its commands, as far as they are recorded.
    pub traceparents: TraceParents,
}

impl CommandSource {
    /// Makes a source that connects when it is first asked, holds at most `prefetch` deliveries that
    /// are not acked, and ends when `stop` is cancelled.
    #[must_use]
    pub fn new(url: &BrokerUrl, prefetch: u16, stop: CancellationToken) -> Self {
        Self {
            connector: Connector::new(url.with_largest_frames(), "storage-worker commands"),
            prefetch,
            link: None,
            up: watch::Sender::new(false),
            outage: OutageLog::new("consume commands"),
            stop,
            deliveries: catalog::DELIVERIES.register(),
            redeliveries: catalog::REDELIVERIES.register(),
        }
    }

    /// Returns whether commands can arrive.
    #[must_use]
    pub fn up(&self) -> watch::Receiver<bool> {
        self.up.subscribe()
    }

    /// Waits for the next delivery group; `None` once stopped. Connects again after every fault.
    ///
    /// Groups are acked in the order in which they came, since the ack of one also acks those before it on its channel. A
    /// group has at most half of the deliveries that may be unacked, so that the next one can be applied before.
    pub async fn next(&mut self) -> Option<DeliveryGroup> {
        let stop = self.stop.clone();
        let group = stop.run_until_cancelled(self.next_group()).await?;
        let redelivered = group.deliveries.iter().filter(|delivery| delivery.redelivered).count();
        self.deliveries.increment(group.deliveries.len() as u64);
        self.redeliveries.increment(redelivered as u64);
        Some(group)
    }

    /// Closes the connection. Deliveries that were not acked go back to the queue.
    pub async fn close(self) {
        if let Some(link) = self.link {
            close(link.connection).await;
        }
    }

    async fn next_group(&mut self) -> DeliveryGroup {
        let mut backoff = Backoff::default();
        loop {
            match self.receive().await {
                Ok(group) => return group,
                Err(error) => {
                    self.outage.failed(&error);
                    self.up.send_replace(false);
                    self.link = None;
                }
            }
            backoff.pause().await;
        }
    }

    async fn receive(&mut self) -> Result<DeliveryGroup, BrokerError> {
        let link = match &mut self.link {
            Some(link) => link,
            none => {
                let link = Link::open(&self.connector, self.prefetch).await?;
                if !self.outage.succeeded() {
                    tracing::info!(queue = COMMANDS, "consuming");
                }
                self.up.send_replace(true);
                none.insert(link)
            }
        };
        if let Some(suspect) = link.held_back.take() {
            return Ok(link.group_from(suspect, self.prefetch / 2));
        }
        let first = tokio::select! {
            first = link.consumer.next() => first.ok_or(BrokerError::Lost)??,
            () = lost(&link.connection, &link.channel) => return Err(BrokerError::Lost),
        };
        Ok(link.group_from(first, self.prefetch / 2))
    }
}

impl Link {
    async fn open(connector: &Connector, prefetch: u16) -> Result<Self, BrokerError> {
        let connection = connector.connect().await?;
        let channel = open_channel(&connection, Purpose::ConsumeCommands).await?;
        in_time(RPC_TIMEOUT, channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
        let options = BasicConsumeOptions::default();
        let consuming =
            channel.basic_consume(COMMANDS.into(), "".into(), options, FieldTable::default());
        let consumer = in_time(RPC_TIMEOUT, consuming).await?;
        Ok(Self { connection, channel, consumer, held_back: None })
    }

    /// Groups a delivery with those that have arrived behind it, up to a limit. The next group reports a fault.
    fn group_from(&mut self, first: lapin::message::Delivery, limit: u16) -> DeliveryGroup {
        let mut last = first.acker.clone();
        let mut deliveries = vec![Delivery::from(first)];
        while deliveries.len() < limit.into() && !deliveries.iter().any(|delivery| delivery.suspect)
        {
            let Some(Some(Ok(next))) = self.consumer.next().now_or_never() else { break };
            if redeliveries(&next.properties) >= SUSPECT_REDELIVERIES {
                self.held_back = Some(next);
                break;
            }
            last = next.acker.clone();
            deliveries.push(Delivery::from(next));
        }
        DeliveryGroup { deliveries, acknowledgement: Acknowledgement { last } }
    }
}

impl Acknowledgement {
    /// Acks every delivery of the group. If that fails they are delivered again.
    pub async fn send(self) {
        // What is older on its channel was acked before.
        let options = BasicAckOptions { multiple: true };
        match in_time(RPC_TIMEOUT, self.last.ack(options)).await {
            Ok(true) => {}
            Ok(false) => tracing::warn!(
                "failed to acknowledge deliveries: the channel is gone; the broker delivers them again"
            ),
            Err(error) => {
                tracing::warn!(error = %error_chain(&error), "failed to acknowledge deliveries; the broker delivers them again");
            }
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
