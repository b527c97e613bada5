//! Sending what may get lost from a storage worker: replies to the gateways that wait for them, and hints to the
//! broadcasters. Without a reply, the gateway answers 202, and the outcome is read from the store. Without a hint,
//! broadcasters read the log.

use std::time::Duration;

use contracts::{Hint, Reply};
use telemetry::{
    OutageLog,
    metrics::{CounterFamily, CounterName, catalog},
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
    topology::{EVENTS, Purpose},
    url::BrokerUrl,
};

/// Maximum number of messages that wait for the connection: the replies of a delivery are one, a hint is one. Further ones
/// are dropped.
const MAX_WAITING: usize = 256;

/// Time after which a reply is dropped: gateways wait 5 s by default.
const REPLY_LIFETIME: Duration = Duration::from_secs(5);

/// Time after which a hint is dropped: broadcasters read the log each second.
const HINT_LIFETIME: Duration = Duration::from_secs(1);

/// Maximum time for publishing a message.
const SEND_TIMEOUT: Duration = Duration::from_secs(2);

/// Sends replies. Cheap to clone.
#[derive(Clone)]
pub struct ReplyPublisher(TransientPublisher);

/// Sends hints, on a connection of its own: replies must not wait behind them, and a user of RabbitMQ that may not declare
/// their exchange can still send replies. Cheap to clone.
#[derive(Clone)]
pub struct HintPublisher(TransientPublisher);

#[derive(Clone)]
struct TransientPublisher {
    queue: mpsc::Sender<Queued>,
    up: watch::Receiver<bool>,
    alarm: watch::Receiver<Option<String>>,
    counted: CounterFamily,
}

/// A message that waits for the connection.
struct Queued {
    exchange: &'static str,
    routing_key: String,
    body: Vec<u8>,
    expires: Instant,
}

struct Sending {
    pool: ConnectionPool,
    purpose: Purpose,
    outage: OutageLog,
    alarms: Alarms,
    queue: mpsc::Receiver<Queued>,
    /// A message whose sending failed.
    unsent: Option<Queued>,
    up: watch::Sender<bool>,
    counted: CounterFamily,
}

impl ReplyPublisher {
    /// Starts the task that sends; it ends once every clone of the publisher is dropped.
    #[must_use]
    pub fn start(url: BrokerUrl) -> (Self, JoinHandle<()>) {
        let connector = Connector::new(url, "storage-worker replies");
        let outage = OutageLog::new("send replies");
        let (publisher, task) =
            TransientPublisher::start(connector, Purpose::Replies, outage, catalog::REPLIES);
        (Self(publisher), task)
    }

    /// Returns whether replies can be sent.
    #[must_use]
    pub fn up(&self) -> watch::Receiver<bool> {
        self.0.up.clone()
    }

    /// Returns the reason of the broker's alarm while one blocks replies.
    #[must_use]
    pub fn alarm(&self) -> watch::Receiver<Option<String>> {
        self.0.alarm.clone()
    }

    /// Sends replies to the gateway that consumes the queue `reply_to`. Drops them if too many wait.
    pub fn send(&self, reply_to: &str, replies: &[Reply]) {
        let Ok(body) = serde_json::to_vec(replies) else {
            tracing::error!("failed to write replies as JSON; their writes are answered with 202");
            return;
        };
        let expires = Instant::now() + REPLY_LIFETIME;
        // By way of the default exchange.
        self.0.queue(Queued { exchange: "", routing_key: reply_to.to_owned(), body, expires });
    }
}

impl HintPublisher {
    /// Starts the task that sends; it ends once every clone of the publisher is dropped.
    #[must_use]
    pub fn start(url: BrokerUrl) -> Self {
        let connector = Connector::new(url, "storage-worker hints");
        let outage = OutageLog::new("send hints of new log entries");
        Self(TransientPublisher::start(connector, Purpose::Hints, outage, catalog::HINTS).0)
    }

    /// Announces a new entry of the log to all broadcasters. Drops the hint if too much waits.
    pub fn announce(&self, hint: &Hint) {
        let Ok(body) = serde_json::to_vec(hint) else {
            tracing::error!("failed to write a hint as JSON; broadcasters read the log instead");
            return;
        };
        let expires = Instant::now() + HINT_LIFETIME;
        self.0.queue(Queued { exchange: EVENTS, routing_key: String::new(), body, expires });
    }
}

impl TransientPublisher {
    fn start(
        connector: Connector,
        purpose: Purpose,
        outage: OutageLog,
        counted: CounterName,
    ) -> (Self, JoinHandle<()>) {
        let (sender, queue) = mpsc::channel(MAX_WAITING);
        let counted = counted.family("result", &["sent", "dropped"]);
        let (up_sender, up) = watch::channel(false);
        let alarms = Alarms::default();
        let alarm = alarms.reason();
        let sending = Sending {
            pool: connector.pool(1),
            purpose,
            outage,
            alarms,
            queue,
            unsent: None,
            up: up_sender,
            counted: counted.clone(),
        };
        (Self { queue: sender, up, alarm, counted }, tokio::spawn(sending.run()))
    }

    fn queue(&self, message: Queued) {
        if self.queue.try_send(message).is_err() {
            self.counted.count("dropped");
            tracing::debug!("reply or hint dropped: too many wait for the broker");
        }
    }
}

impl Sending {
    async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            let opening = PublishChannel::open(&self.pool, self.purpose, &self.alarms);
            let error = match opening.await {
                Ok(channel) => {
                    backoff = Backoff::default();
                    self.outage.succeeded();
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
            self.outage.failed(&error);
            backoff.pause().await;
        }
    }

    /// Sends until every clone of the publisher is dropped and everything is sent.
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
            let Some(message) = next else { return Ok(()) };
            // A blocked connection would only pile messages up in the client library.
            if message.expires < Instant::now() || channel.is_blocked() {
                self.counted.count("dropped");
                continue;
            }
            let Queued { exchange, routing_key, body, .. } = &message;
            let publishing = publish_unconfirmed(&channel.channel, exchange, routing_key, body);
            if let Err(error) = in_time(SEND_TIMEOUT, publishing).await {
                self.unsent = Some(message);
                return Err(error);
            }
            self.counted.count("sent");
        }
    }
}
