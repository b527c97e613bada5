//! Consuming a queue that belongs to one connection: a gateway's replies, a broadcaster's frames and hints.
//! Messages may be lost with their queue, so there are no acks.

use std::time::Duration;

use contracts::{Hint, Reply};
use futures_util::StreamExt;
use lapin::{Channel, Connection, Consumer, options::BasicConsumeOptions, types::FieldTable};
use telemetry::OutageLog;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::Backoff,
    channel::{lost, open_channel},
    connection::{Connector, RPC_TIMEOUT, close, in_time},
    error::BrokerError,
    topology::{self, Purpose},
    url::BrokerUrl,
};

/// Interval at which a consumer checks that its queue is still there, and still bound. The broker
/// may not tell when it deletes the queue, and publishers do not learn that a message was lost.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Seconds between heartbeats of a connection that frames come on: subscribers wait for them.
const FRAMES_HEARTBEAT_SECS: u16 = 2;

/// Consumes a queue of its own, and a new one after every fault.
pub struct ExclusiveConsumer {
    queue_name: watch::Receiver<Option<String>>,
    up: watch::Receiver<bool>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Replies,
    Frames,
    Hints,
}

struct Link {
    kind: Kind,
    connection: Connection,
    channel: Channel,
    consumer: Consumer,
    queue_name: String,
}

impl ExclusiveConsumer {
    /// Consumes a gateway's replies.
    pub fn replies(url: BrokerUrl, on_reply: impl Fn(Reply) + Send + Sync + 'static) -> Self {
        // Without its reply, a write is answered with 202.
        let unreadable = OutageLog::new("read a worker's replies");
        let on_body = move |body: Vec<u8>| match serde_json::from_slice::<Vec<Reply>>(&body) {
            Ok(replies) => {
                unreadable.succeeded();
                replies.into_iter().for_each(&on_reply);
            }
            Err(error) => unreadable.failed(&error),
        };
        Self::start(Connector::new(url, "gateway replies"), Kind::Replies, on_body)
    }

    /// Consumes the frames for one broadcaster.
    pub fn frames(url: &BrokerUrl, on_frame: impl Fn(Vec<u8>) + Send + Sync + 'static) -> Self {
        let url = url.with_heartbeat(FRAMES_HEARTBEAT_SECS);
        Self::start(Connector::new(url, "broadcaster frames"), Kind::Frames, on_frame)
    }

    /// Consumes the hints for one broadcaster. They are not sent again after a fault: the log has them.
    pub fn hints(url: &BrokerUrl, on_hint: impl Fn(Hint) + Send + Sync + 'static) -> Self {
        let url = url.with_heartbeat(FRAMES_HEARTBEAT_SECS);
        let unreadable = OutageLog::new("read a worker's hint");
        let on_body = move |body: Vec<u8>| match serde_json::from_slice(&body) {
            Ok(hint) => {
                unreadable.succeeded();
                on_hint(hint);
            }
            Err(error) => unreadable.failed(&error),
        };
        Self::start(Connector::new(url, "broadcaster hints"), Kind::Hints, on_body)
    }

    fn start(
        connector: Connector,
        kind: Kind,
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
            consume(&connector, kind, on_body, &report, &stopped).await;
        });
        Self { queue_name, up, stop, task }
    }

    /// Returns the queue's name while there is one.
    #[must_use]
    pub fn queue_name(&self) -> watch::Receiver<Option<String>> {
        self.queue_name.clone()
    }

    /// Returns whether messages can arrive.
    #[must_use]
    pub fn up(&self) -> watch::Receiver<bool> {
        self.up.clone()
    }

    /// Ends consuming and the connection.
    pub async fn close(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the task of a consumer panicked");
        }
    }
}

/// Consumes until `stop`, and reports the queue's name while it does.
async fn consume(
    connector: &Connector,
    kind: Kind,
    on_body: impl Fn(Vec<u8>),
    report: &impl Fn(Option<String>),
    stop: &CancellationToken,
) {
    let outage = OutageLog::new(match kind {
        Kind::Replies => "receive replies",
        Kind::Frames => "receive frames",
        Kind::Hints => "receive hints of new log entries",
    });
    let mut backoff = Backoff::default();
    loop {
        let opened = stop.run_until_cancelled(Link::open(connector, kind)).await;
        let error = match opened {
            None => return,
            Some(Ok(mut link)) => {
                backoff = Backoff::default();
                report(Some(link.queue_name.clone()));
                if !outage.succeeded() {
                    tracing::info!(queue = ?kind, "consuming from a queue of its own");
                }
                let consumed = stop.run_until_cancelled(link.consume(&on_body)).await;
                report(None);
                let Some(error) = consumed else { return close(link.connection).await };
                error
            }
            Some(Err(error)) => error,
        };
        outage.failed(&error);
        if stop.run_until_cancelled(backoff.pause()).await.is_none() {
            return;
        }
    }
}

impl Link {
    async fn open(connector: &Connector, kind: Kind) -> Result<Self, BrokerError> {
        let connection = connector.connect().await?;
        let purpose = match kind {
            Kind::Replies => Purpose::Replies,
            Kind::Frames => Purpose::Broadcast,
            Kind::Hints => Purpose::Hints,
        };
        let channel = open_channel(&connection, purpose).await?;
        let (queue_name, consumer) = in_time(RPC_TIMEOUT, async {
            let queue_name = match kind {
                Kind::Replies => topology::declare_reply_queue(&channel).await?,
                Kind::Frames => topology::declare_frame_queue(&channel).await?,
                Kind::Hints => topology::declare_hint_queue(&channel).await?,
            };
            let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
            let name = queue_name.as_str().into();
            let consumer =
                channel.basic_consume(name, "".into(), options, FieldTable::default()).await?;
            lapin::Result::Ok((queue_name, consumer))
        })
        .await?;
        Ok(Self { kind, connection, channel, consumer, queue_name })
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
        let (channel, name) = (&self.channel, &self.queue_name);
        match self.kind {
            Kind::Replies => topology::message_count(channel, name).await.map(drop),
            Kind::Frames => topology::bind_frame_queue(channel, name).await,
            Kind::Hints => topology::bind_hint_queue(channel, name).await,
        }
    }
}
