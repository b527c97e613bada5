//! Consuming a queue that belongs to one connection: a gateway's replies, a broadcaster's frames.
//! Messages may be lost with their queue, so there are no acks.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::{Channel, Connection, Consumer, options::BasicConsumeOptions, types::FieldTable};
use telemetry::error_chain;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::Backoff,
    channel::{lost, open_channel},
    connection::{Connector, RPC_TIMEOUT, in_time},
    error::BrokerError,
    topology::{self, Declares},
};

/// Interval at which a consumer checks that its queue is still there, and still bound. The broker may
/// not tell when it deletes the queue, and publishers do not learn that a message was lost.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Queue to declare and consume.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ExclusiveQueue {
    Replies,
    Frames,
}

/// A task that consumes such a queue, and a new one after every fault.
pub(crate) struct ExclusiveConsumer {
    /// The queue's name while there is one.
    pub(crate) queue_name: watch::Receiver<Option<String>>,
    /// True while messages can arrive.
    pub(crate) up: watch::Receiver<bool>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

struct Link {
    queue: ExclusiveQueue,
    connection: Connection,
    channel: Channel,
    consumer: Consumer,
    queue_name: String,
}

impl ExclusiveConsumer {
    pub(crate) fn start(
        connector: Connector,
        queue: ExclusiveQueue,
        on_body: impl Fn(Vec<u8>) + Send + Sync + 'static,
    ) -> Self {
        let (name_sender, queue_name) = watch::channel(None);
        let (up_sender, up) = watch::channel(false);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let report = |name: Option<String>| {
                let up = name.is_some();
                name_sender.send_replace(name);
                up_sender.send_replace(up);
            };
            stopped.run_until_cancelled(consume_forever(&connector, queue, on_body, &report)).await;
            report(None);
        });
        Self { queue_name, up, stop, task }
    }

    pub(crate) async fn close(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the task of a consumer panicked");
        }
    }
}

/// Consumes, and reports the queue's name while it does.
async fn consume_forever(
    connector: &Connector,
    queue: ExclusiveQueue,
    on_body: impl Fn(Vec<u8>),
    report: &impl Fn(Option<String>),
) {
    let mut backoff = Backoff::default();
    loop {
        let error = match Link::open(connector, queue).await {
            Ok(mut link) => {
                backoff = Backoff::default();
                report(Some(link.queue_name.clone()));
                tracing::info!(?queue, "consuming");
                let error = link.consume(&on_body).await;
                report(None);
                error
            }
            Err(error) => error,
        };
        tracing::warn!(?queue, error = %error_chain(&error), "failed to consume; reconnecting");
        backoff.pause().await;
    }
}

impl Link {
    async fn open(connector: &Connector, queue: ExclusiveQueue) -> Result<Self, BrokerError> {
        let connection = connector.connect().await?;
        let declares = match queue {
            ExclusiveQueue::Replies => Declares::None,
            ExclusiveQueue::Frames => Declares::Broadcast,
        };
        let channel = open_channel(&connection, declares).await?;
        let (queue_name, consumer) = in_time(RPC_TIMEOUT, async {
            let queue_name = match queue {
                ExclusiveQueue::Replies => topology::declare_reply_queue(&channel).await?,
                ExclusiveQueue::Frames => topology::declare_frame_queue(&channel).await?,
            };
            let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
            let name = queue_name.as_str().into();
            let consumer =
                channel.basic_consume(name, "".into(), options, FieldTable::default()).await?;
            lapin::Result::Ok((queue_name, consumer))
        })
        .await?;
        Ok(Self { queue, connection, channel, consumer, queue_name })
    }

    /// Hands over what arrives until the consumer ends, which is always a fault.
    async fn consume(&mut self, on_body: impl Fn(Vec<u8>)) -> BrokerError {
        let mut checks = interval(CHECK_INTERVAL);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let delivery = tokio::select! {
                delivery = self.consumer.next() => delivery,
                () = lost(&self.connection, &self.channel) => return BrokerError::Lost,
                _ = checks.tick() => match in_time(RPC_TIMEOUT, self.check()).await {
                    Ok(()) => continue,
                    Err(error) => return error,
                },
            };
            match delivery {
                Some(Ok(delivery)) => on_body(delivery.data),
                Some(Err(error)) => return error.into(),
                None => return BrokerError::Lost,
            }
        }
    }

    async fn check(&self) -> lapin::Result<()> {
        match self.queue {
            ExclusiveQueue::Replies => {
                topology::message_count(&self.channel, &self.queue_name).await.map(drop)
            }
            ExclusiveQueue::Frames => {
                topology::bind_frame_queue(&self.channel, &self.queue_name).await
            }
        }
    }
}
