//! Outcomes on their way back from a worker to the gateway that waits for them. A reply may get
//! lost: the gateway then answers 202, and the outcome is read off the store.

use std::time::Duration;

use contracts::Reply;
use deadpool_lapin::Connection as PooledConnection;
use lapin::{BasicProperties, Channel, options::BasicPublishOptions};
use telemetry::metrics::{CounterFamily, catalog};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    BrokerUrl,
    connection::{
        BrokerError, ConnectionPool, Connector, backoff, close_in_background, in_time, open_channel,
    },
    exclusive::{ExclusiveConsumer, Queue},
    topology::Declares,
};

/// How many replies may wait for the connection. What comes then is dropped.
const MAX_WAITING_REPLIES: usize = 256;

/// How long a reply is worth sending: gateways wait 5 s by default.
const REPLY_LIFETIME: Duration = Duration::from_secs(5);

/// How long handing a reply to the broker may take.
const SEND_TIMEOUT: Duration = Duration::from_secs(2);

/// A gateway's reply queue.
pub struct ReplySource {
    consumer: ExclusiveConsumer,
}

/// A worker's way to answer. Cheap to clone.
#[derive(Clone)]
pub struct ReplyPublisher {
    replies: mpsc::Sender<QueuedReplies>,
    up: watch::Receiver<bool>,
    counted: CounterFamily,
}

struct QueuedReplies {
    queue: String,
    body: Vec<u8>,
    expires: Instant,
}

impl ReplySource {
    /// Consumes a reply queue, a new one after every fault, and hands each outcome to `on_outcome`.
    pub fn start(
        url: BrokerUrl,
        connection_name: &str,
        on_outcome: impl Fn(Reply) + Send + Sync + 'static,
    ) -> Self {
        let on_body = move |body: Vec<u8>| match serde_json::from_slice::<Vec<Reply>>(&body) {
            Ok(outcomes) => outcomes.into_iter().for_each(&on_outcome),
            Err(error) => tracing::warn!(%error, "cannot read a reply"),
        };
        let connector = Connector::new(url, connection_name);
        Self { consumer: ExclusiveConsumer::start(connector, Queue::Replies, on_body) }
    }

    /// The reply queue's name while there is one.
    #[must_use]
    pub fn queue_name(&self) -> watch::Receiver<Option<String>> {
        self.consumer.queue_name()
    }

    /// Whether replies can arrive.
    #[must_use]
    pub fn up(&self) -> watch::Receiver<bool> {
        self.consumer.up()
    }

    /// Ends consuming and the connection.
    pub async fn close(self) {
        self.consumer.close().await;
    }
}

impl ReplyPublisher {
    /// Starts the task that sends; it ends once every clone of the publisher is dropped.
    #[must_use]
    pub fn start(url: BrokerUrl, connection_name: &str) -> (Self, JoinHandle<()>) {
        let (replies, waiting) = mpsc::channel(MAX_WAITING_REPLIES);
        let pool = Connector::new(url, connection_name).pool(1);
        let counted = catalog::REPLIES.family("result", &["sent", "dropped"]);
        let (connected, up) = watch::channel(false);
        let sending = tokio::spawn(send_replies(pool, waiting, connected, counted.clone()));
        (Self { replies, up, counted }, sending)
    }

    /// Whether replies can be sent.
    #[must_use]
    pub fn up(&self) -> watch::Receiver<bool> {
        self.up.clone()
    }

    /// Sends outcomes to the gateway that consumes `queue`, or drops them where too many wait.
    pub fn send(&self, queue: &str, outcomes: &[Reply]) {
        let Ok(body) = serde_json::to_vec(outcomes) else {
            tracing::error!("outcomes cannot be written as JSON");
            return;
        };
        let expires = Instant::now() + REPLY_LIFETIME;
        let reply = QueuedReplies { queue: queue.to_owned(), body, expires };
        if self.replies.try_send(reply).is_err() {
            self.counted.count("dropped");
            tracing::debug!("a reply was dropped: too many wait");
        }
    }
}

async fn send_replies(
    pool: ConnectionPool,
    mut waiting: mpsc::Receiver<QueuedReplies>,
    connected: watch::Sender<bool>,
    counted: CounterFamily,
) {
    let mut unsent = None;
    let mut delays = backoff();
    let stop = CancellationToken::new();
    while !stop.is_cancelled() {
        match open(&pool).await {
            Ok((connection, channel)) => {
                delays = backoff();
                connected.send_replace(true);
                let sent =
                    send_all(&connection, &channel, &mut waiting, &mut unsent, &counted).await;
                connected.send_replace(false);
                close_in_background(PooledConnection::take(connection));
                match sent {
                    Ok(()) => stop.cancel(),
                    Err(error) => tracing::warn!(%error, "the reply connection failed"),
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot open the reply connection");
                if waiting.is_closed() {
                    return;
                }
                sleep(delays.next().unwrap_or(SEND_TIMEOUT)).await;
            }
        }
    }
}

async fn open(pool: &ConnectionPool) -> Result<(PooledConnection, Channel), BrokerError> {
    let connection = pool.get().await?;
    match open_channel(&connection, Declares::None).await {
        Ok(channel) => Ok((connection, channel)),
        Err(error) => {
            close_in_background(PooledConnection::take(connection));
            Err(error)
        }
    }
}

/// Ends with `Ok` once there are no more replies and nobody who could send one.
async fn send_all(
    connection: &PooledConnection,
    channel: &Channel,
    waiting: &mut mpsc::Receiver<QueuedReplies>,
    unsent: &mut Option<QueuedReplies>,
    counted: &CounterFamily,
) -> Result<(), BrokerError> {
    loop {
        let reply = match unsent.take() {
            Some(reply) => reply,
            None => match waiting.recv().await {
                Some(reply) => reply,
                None => return Ok(()),
            },
        };
        // A blocked connection would only pile replies up in the client library.
        if reply.expires < Instant::now() || connection.status().blocked() {
            counted.count("dropped");
            continue;
        }
        let publishing = channel.basic_publish(
            "".into(),
            reply.queue.as_str().into(),
            BasicPublishOptions::default(),
            &reply.body,
            BasicProperties::default().with_content_type("application/json".into()),
        );
        if let Err(error) = in_time(SEND_TIMEOUT, publishing).await {
            *unsent = Some(reply);
            return Err(error);
        }
        counted.count("sent");
    }
}
