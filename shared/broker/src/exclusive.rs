//! Consuming a queue that belongs to one connection: a gateway's replies, a broadcaster's frames.
//! What is lost with the queue may be lost, so there are no acks.

use std::sync::Arc;

use futures_util::StreamExt;
use lapin::{Channel, Connection, Consumer, options::BasicConsumeOptions, types::FieldTable};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Duration, MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    connection::{
        BrokerError, Connector, RPC_TIMEOUT, backoff, close_in_background, in_time, lost,
        open_channel,
    },
    topology::{self, Declares},
};

/// Which queue to declare.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Queue {
    Replies,
    Frames,
}

/// A task that consumes such a queue, and a new one after every fault.
pub(crate) struct ExclusiveConsumer {
    queue_name: watch::Receiver<Option<String>>,
    up: watch::Receiver<bool>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// How often a consumer asks whether its queue is still there, and still bound. The broker may not
/// tell when it deletes the queue, and what was sent to the exchange does not say that it was lost.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

struct Link {
    queue: Queue,
    connection: Connection,
    channel: Channel,
    consumer: Consumer,
    queue_name: String,
}

impl ExclusiveConsumer {
    pub(crate) fn start(
        connector: Connector,
        queue: Queue,
        on_body: impl Fn(Vec<u8>) + Send + Sync + 'static,
    ) -> Self {
        let (name_sender, queue_name) = watch::channel(None);
        let (up_sender, up) = watch::channel(false);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let on_body = Arc::new(on_body);
        let task = tokio::spawn(async move {
            let mut delays = backoff();
            while !stopped.is_cancelled() {
                let opened = tokio::select! {
                    opened = open(&connector, queue) => opened,
                    () = stopped.cancelled() => return,
                };
                match opened {
                    Ok(mut link) => {
                        delays = backoff();
                        name_sender.send_replace(Some(link.queue_name.clone()));
                        up_sender.send_replace(true);
                        tracing::info!(queue = ?queue, "consuming");
                        let ended = tokio::select! {
                            error = consume(&mut link, on_body.as_ref()) => Some(error),
                            () = stopped.cancelled() => None,
                        };
                        name_sender.send_replace(None);
                        up_sender.send_replace(false);
                        close_in_background(link.connection);
                        match ended {
                            Some(error) => tracing::warn!(queue = ?queue, %error, "consumer lost"),
                            None => return,
                        }
                    }
                    Err(error) => tracing::warn!(queue = ?queue, %error, "cannot consume"),
                }
                tokio::select! {
                    () = sleep(delays.next().unwrap_or(Duration::from_secs(1))) => {}
                    () = stopped.cancelled() => {}
                }
            }
        });
        Self { queue_name, up, stop, task }
    }

    pub(crate) fn queue_name(&self) -> watch::Receiver<Option<String>> {
        self.queue_name.clone()
    }

    pub(crate) fn up(&self) -> watch::Receiver<bool> {
        self.up.clone()
    }

    pub(crate) async fn close(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the consumer's task failed");
        }
    }
}

async fn open(connector: &Connector, queue: Queue) -> Result<Link, BrokerError> {
    let connection = connector.connect().await?;
    match subscribe(&connection, queue).await {
        Ok((channel, consumer, queue_name)) => {
            Ok(Link { queue, connection, channel, consumer, queue_name })
        }
        Err(error) => {
            close_in_background(connection);
            Err(error)
        }
    }
}

async fn subscribe(
    connection: &Connection,
    queue: Queue,
) -> Result<(Channel, Consumer, String), BrokerError> {
    let shared = match queue {
        Queue::Replies => Declares::None,
        Queue::Frames => Declares::Broadcast,
    };
    let channel = open_channel(connection, shared).await?;
    let (queue_name, consumer) = in_time(RPC_TIMEOUT, async {
        let queue_name = match queue {
            Queue::Replies => topology::declare_reply_queue(&channel).await?,
            Queue::Frames => topology::declare_frame_queue(&channel).await?,
        };
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let consumer = channel
            .basic_consume(queue_name.as_str().into(), "".into(), options, FieldTable::default())
            .await?;
        Ok((queue_name, consumer))
    })
    .await?;
    Ok((channel, consumer, queue_name))
}

async fn check(link: &Link) -> lapin::Result<()> {
    match link.queue {
        Queue::Replies => topology::confirm_queue(&link.channel, &link.queue_name).await,
        Queue::Frames => topology::bind_frame_queue(&link.channel, &link.queue_name).await,
    }
}

/// Hands over what arrives until the consumer ends, which is always a fault.
async fn consume(link: &mut Link, on_body: &(impl Fn(Vec<u8>) + Sync)) -> BrokerError {
    let mut checks = interval(CHECK_INTERVAL);
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let delivery = tokio::select! {
            delivery = link.consumer.next() => delivery,
            () = lost(&link.connection, &link.channel) => return BrokerError::ConsumerEnded,
            _ = checks.tick() => match in_time(RPC_TIMEOUT, check(link)).await {
                Ok(()) => continue,
                Err(error) => return error,
            },
        };
        match delivery {
            Some(Ok(delivery)) => on_body(delivery.data),
            Some(Err(error)) => return error.into(),
            None => return BrokerError::ConsumerEnded,
        }
    }
}
