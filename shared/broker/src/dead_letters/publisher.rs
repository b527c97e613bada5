//! Dead-lettering what cannot be applied, with headers that say why, where and when.

use contracts::Timestamp;
use lapin::{Confirmation, types::FieldTable};
use telemetry::{
    OutageLog, host_name,
    metrics::{Counter, catalog},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    alarms::Alarms,
    backoff::Backoff,
    channel::{persistent_json, publish_confirmed},
    connection::{ConnectionPool, Connector, RPC_TIMEOUT, in_time},
    error::BrokerError,
    headers::{DEAD_LETTER_REASON, DEAD_LETTERED_AT, DEAD_LETTERED_BY, DEAD_LETTERED_FROM},
    publish_channel::PublishChannel,
    topology::{COMMANDS, DEAD_LETTERS, Purpose, text},
    traceparents::TraceParents,
    url::BrokerUrl,
};

/// Maximum length of a reason; the rest is cut off. A reason may quote a text of any length, and
/// headers have to fit into one frame.
const MAX_REASON_BYTES: usize = 500;

/// A command or delivery that cannot be applied.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The command, or the whole delivery if it cannot be read as commands.
    pub body: Vec<u8>,
    /// Reason for the operator.
    pub reason: String,
    /// The traces that it belongs to, as far as they are recorded.
    pub traceparents: TraceParents,
}

/// Publishes dead letters.
pub struct DeadLetterPublisher {
    pool: ConnectionPool,
    channel: Option<PublishChannel>,
    alarms: Alarms,
    /// True unless a dead letter waits because the last try failed.
    up: watch::Sender<bool>,
    outage: OutageLog,
    host: String,
    stop: CancellationToken,
    dead_lettered: Counter,
}

impl DeadLetterPublisher {
    /// Makes a publisher that connects when it is first needed.
    #[must_use]
    pub fn new(url: BrokerUrl, stop: CancellationToken) -> Self {
        Self {
            pool: Connector::new(url, "storage-worker dead letters").pool(1),
            channel: None,
            alarms: Alarms::default(),
            up: watch::Sender::new(true),
            outage: OutageLog::new("dead-letter a command"),
            host: host_name(),
            stop,
            dead_lettered: catalog::DEAD_LETTERED.register(),
        }
    }

    /// Returns false while a dead letter waits because the last try failed.
    #[must_use]
    pub fn up(&self) -> watch::Receiver<bool> {
        self.up.subscribe()
    }

    /// Returns the reason of the broker's alarm while one blocks dead letters.
    #[must_use]
    pub fn alarm(&self) -> watch::Receiver<Option<String>> {
        self.alarms.reason()
    }

    /// Closes the connection, if there is one.
    pub async fn close(self) {
        if let Some(channel) = self.channel {
            channel.close().await;
        }
    }

    /// Publishes a dead letter, again until the broker confirms it: a command must not be acked before
    /// it is applied or dead-lettered. Returns false if `stop` comes first.
    #[must_use]
    pub async fn publish(&mut self, dead_letter: &DeadLetter) -> bool {
        let stop = self.stop.clone();
        let publishing = stop.run_until_cancelled(self.publish_until_confirmed(dead_letter));
        if publishing.await.is_none() {
            return false;
        }
        self.dead_lettered.increment(1);
        let reason = shortened(&dead_letter.reason);
        tracing::warn!(
            reason,
            queue = DEAD_LETTERS,
            "command or delivery dead-lettered; see `storage-worker dead-letters list`"
        );
        true
    }

    async fn publish_until_confirmed(&mut self, dead_letter: &DeadLetter) {
        let mut backoff = Backoff::default();
        while let Err(error) = self.try_publish(dead_letter).await {
            self.failed(&error);
            if let Some(channel) = self.channel.take() {
                channel.give_back(&error);
            }
            backoff.pause().await;
        }
        self.outage.succeeded();
        self.up.send_if_modified(|up| !std::mem::replace(up, true));
    }

    fn failed(&self, error: &BrokerError) {
        self.outage.failed(error);
        self.up.send_replace(false);
    }

    async fn try_publish(&mut self, dead_letter: &DeadLetter) -> Result<(), BrokerError> {
        let properties = persistent_json(self.headers(dead_letter), &dead_letter.traceparents);
        self.open().await?;
        let channel = self.channel.as_ref().ok_or(BrokerError::Lost)?;
        let publishing =
            publish_confirmed(&channel.channel, DEAD_LETTERS, &dead_letter.body, properties);
        tokio::pin!(publishing);
        loop {
            let confirmed = in_time(RPC_TIMEOUT, publishing.as_mut()).await;
            if matches!(confirmed, Err(BrokerError::Timeout)) && channel.is_blocked() {
                // The broker takes this publish when its alarm is over. Another would make a second
                // dead letter, and a blocked connection cannot even be closed.
                tracing::debug!("dead-lettering waits for the end of the broker's alarm");
                self.failed(&BrokerError::Timeout);
                continue;
            }
            return match confirmed? {
                Confirmation::Ack(None) => Ok(()),
                _ => Err(BrokerError::NotAccepted),
            };
        }
    }

    async fn open(&mut self) -> Result<(), BrokerError> {
        // A channel that has ended gives its connection back first: the pool has room for one.
        let open = self.channel.take().filter(PublishChannel::is_open);
        let channel = match open {
            Some(channel) => channel,
            None => {
                PublishChannel::open(&self.pool, Purpose::PublishCommands, &self.alarms).await?
            }
        };
        self.channel = Some(channel);
        Ok(())
    }

    fn headers(&self, dead_letter: &DeadLetter) -> FieldTable {
        let mut headers = FieldTable::default();
        headers
            .insert(DEAD_LETTER_REASON.into(), text(shortened(&dead_letter.reason)))
            .insert(DEAD_LETTERED_BY.into(), text(&self.host))
            .insert(DEAD_LETTERED_AT.into(), text(&Timestamp::now().to_string()))
            .insert(DEAD_LETTERED_FROM.into(), text(COMMANDS));
        headers
    }
}

fn shortened(reason: &str) -> &str {
    reason.get(..reason.floor_char_boundary(MAX_REASON_BYTES)).unwrap_or_default()
}
