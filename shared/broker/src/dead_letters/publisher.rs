//! Dead-lettering what cannot be applied, with headers that say why, where and when.

use contracts::Timestamp;
use lapin::{Confirmation, types::FieldTable};
use telemetry::{
    error_chain, host_name,
    metrics::{Counter, catalog},
};
use tokio_util::sync::CancellationToken;

use crate::{
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
            host: host_name(),
            stop,
            dead_lettered: catalog::DEAD_LETTERED.register(),
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
            tracing::warn!(error = %error_chain(&error), "failed to dead-letter; retrying");
            if let Some(channel) = self.channel.take() {
                channel.give_back(&error);
            }
            backoff.pause().await;
        }
    }

    async fn try_publish(&mut self, dead_letter: &DeadLetter) -> Result<(), BrokerError> {
        let properties = persistent_json(self.headers(dead_letter), &dead_letter.traceparents);
        let channel = self.open().await?;
        let publishing =
            publish_confirmed(&channel.channel, DEAD_LETTERS, &dead_letter.body, properties);
        tokio::pin!(publishing);
        loop {
            let confirmed = in_time(RPC_TIMEOUT, publishing.as_mut()).await;
            if matches!(confirmed, Err(BrokerError::Timeout)) && channel.is_blocked() {
                // The broker takes this publish when its alarm is over. Another would make a second
                // dead letter, and a blocked connection cannot even be closed.
                tracing::warn!("dead-lettering waits for the end of the broker's alarm");
                continue;
            }
            return match confirmed? {
                Confirmation::Ack(None) => Ok(()),
                _ => Err(BrokerError::NotAccepted),
            };
        }
    }

    async fn open(&mut self) -> Result<&PublishChannel, BrokerError> {
        // A channel that has ended gives its connection back first: the pool has room for one.
        let open = self.channel.take().filter(PublishChannel::is_open);
        let channel = match open {
            Some(channel) => channel,
            None => PublishChannel::open(&self.pool, Purpose::PublishCommands).await?,
        };
        Ok(self.channel.insert(channel))
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
