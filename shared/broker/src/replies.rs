//! Sending replies from a storage worker to the gateway that waits for them. A reply may get lost:
//! the gateway then answers 202, and the outcome is read from the store.

use std::time::Duration;

use contracts::Reply;
use telemetry::{
    OutageLog,
    metrics::{CounterFamily, catalog},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval_at},
};

use crate::{
    alarms::{Alarms, PROBE_INTERVAL},
    backoff::Backoff,
    channel::{publish_probe, publish_unconfirmed},
    connection::{ConnectionPool, Connector, in_time},
    error::BrokerError,
    publish_channel::PublishChannel,
    topology::Purpose,
    url::BrokerUrl,
};

/// Maximum number of deliveries whose replies wait for the connection. Further ones are dropped.
const MAX_WAITING: usize = 256;

/// Time after which a reply is dropped: gateways wait 5 s by default.
const REPLY_LIFETIME: Duration = Duration::from_secs(5);

/// Maximum time for publishing the replies of a delivery.
const SEND_TIMEOUT: Duration = Duration::from_secs(2);

/// Sends replies to gateways. Cheap to clone.
#[derive(Clone)]
pub struct ReplyPublisher {
    queue: mpsc::Sender<QueuedReplies>,
    up: watch::Receiver<bool>,
    alarm: watch::Receiver<Option<String>>,
    counted: CounterFamily,
}

/// The replies to the commands of one delivery.
struct QueuedReplies {
    reply_to: String,
    body: Vec<u8>,
    expires: Instant,
}

struct Sending {
    pool: ConnectionPool,
    alarms: Alarms,
    queue: mpsc::Receiver<QueuedReplies>,
    /// Replies whose sending failed.
    unsent: Option<QueuedReplies>,
    up: watch::Sender<bool>,
    counted: CounterFamily,
}

impl ReplyPublisher {
    /// Starts the task that sends; it ends once every clone of the publisher is dropped.
    #[must_use]
    pub fn start(url: BrokerUrl) -> (Self, JoinHandle<()>) {
        let (sender, queue) = mpsc::channel(MAX_WAITING);
        let counted = catalog::REPLIES.family("result", &["sent", "dropped"]);
        let (up_sender, up) = watch::channel(false);
        let alarms = Alarms::default();
        let alarm = alarms.reason();
        let sending = Sending {
            pool: Connector::new(url, "storage-worker replies").pool(1),
            alarms,
            queue,
            unsent: None,
            up: up_sender,
            counted: counted.clone(),
        };
        (Self { queue: sender, up, alarm, counted }, tokio::spawn(sending.run()))
    }

    /// Returns whether replies can be sent.
    #[must_use]
    pub fn up(&self) -> watch::Receiver<bool> {
        self.up.clone()
    }

    /// Returns the reason of the broker's alarm while one blocks replies.
    #[must_use]
    pub fn alarm(&self) -> watch::Receiver<Option<String>> {
        self.alarm.clone()
    }

    /// Sends replies to the gateway that consumes the queue `reply_to`. Drops them if too many wait.
    pub fn send(&self, reply_to: &str, replies: &[Reply]) {
        let Ok(body) = serde_json::to_vec(replies) else {
            tracing::error!("failed to write replies as JSON; their writes are answered with 202");
            return;
        };
        let expires = Instant::now() + REPLY_LIFETIME;
        let replies = QueuedReplies { reply_to: reply_to.to_owned(), body, expires };
        if self.queue.try_send(replies).is_err() {
            self.counted.count("dropped");
            tracing::debug!("replies dropped: too many wait for the broker");
        }
    }
}

impl Sending {
    async fn run(mut self) {
        let outage = OutageLog::new("send replies");
        let mut backoff = Backoff::default();
        loop {
            let opening = PublishChannel::open(&self.pool, Purpose::Replies, &self.alarms);
            let error = match opening.await {
                Ok(channel) => {
                    backoff = Backoff::default();
                    outage.succeeded();
                    self.up.send_replace(true);
                    let sent = self.send_all(&channel).await;
                    self.up.send_replace(false);
                    let Err(error) = sent else { return channel.close().await };
                    channel.give_back(&error);
                    error
                }
                Err(_) if self.queue.is_closed() => return,
                Err(error) => error,
            };
            outage.failed(&error);
            backoff.pause().await;
        }
    }

    /// Sends until every clone of the publisher is dropped and all replies are sent.
    async fn send_all(&mut self, channel: &PublishChannel) -> Result<(), BrokerError> {
        let mut probes = interval_at(Instant::now() + PROBE_INTERVAL, PROBE_INTERVAL);
        probes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next = match self.unsent.take() {
                None => tokio::select! {
                    next = self.queue.recv() => next,
                    () = channel.lost() => return Err(BrokerError::Lost),
                    _ = probes.tick() => {
                        if !channel.is_blocked() {
                            in_time(SEND_TIMEOUT, publish_probe(&channel.channel, "")).await?;
                        }
                        continue;
                    }
                },
                unsent => unsent,
            };
            let Some(replies) = next else { return Ok(()) };
            // A blocked connection would only pile replies up in the client library.
            if replies.expires < Instant::now() || channel.is_blocked() {
                self.counted.count("dropped");
                continue;
            }
            let publishing =
                publish_unconfirmed(&channel.channel, "", &replies.reply_to, &replies.body);
            if let Err(error) = in_time(SEND_TIMEOUT, publishing).await {
                self.unsent = Some(replies);
                return Err(error);
            }
            self.counted.count("sent");
        }
    }
}
