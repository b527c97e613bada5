//! Looking through what was parked, for an operator: page by page, back into the queue of commands,
//! or away for good.

use lapin::{
    BasicProperties, Channel, Confirmation, Connection,
    message::BasicGetMessage,
    options::{BasicAckOptions, BasicGetOptions, BasicPublishOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};

use crate::{
    BrokerUrl, TraceParents,
    connection::{BrokerError, Connector, RPC_TIMEOUT, in_time, open_confirming_channel},
    headers::{
        self, DEAD_LETTER_REASON, DEAD_LETTERED_AT, DEAD_LETTERED_BY, REPLAYED, TRACEPARENT,
    },
    topology::{COMMANDS, DEAD, PERSISTENT},
};

/// The queue of what was parked. What was fetched and neither replayed nor purged is back in it
/// once this is closed, or dropped, and not before: it is fetched once, whether it is kept or let go.
pub struct DeadLetterQueue {
    connection: Connection,
    channel: Channel,
}

/// A letter that was fetched. Nobody else can fetch it meanwhile.
pub struct FetchedDeadLetter {
    /// Names the letter; empty for one that somebody else put there without a `message_id`.
    pub id: String,
    /// Why it was parked.
    pub reason: String,
    /// When, in RFC 3339.
    pub dead_lettered_at: String,
    /// By which host.
    pub dead_lettered_by: String,
    /// What was parked.
    pub body: Vec<u8>,
    message: BasicGetMessage,
}

/// The broker did not do it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DeadLetterQueueError(#[from] BrokerError);

impl DeadLetterQueue {
    /// Connects.
    pub async fn open(url: BrokerUrl) -> Result<Self, DeadLetterQueueError> {
        let connection =
            Connector::new(url.with_largest_frames(), "dead letters").connect().await?;
        let channel = open_confirming_channel(&connection).await?;
        Ok(Self { connection, channel })
    }

    /// How many letters can be fetched.
    pub async fn count(&self) -> Result<u32, DeadLetterQueueError> {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let queue = self.channel.queue_declare(DEAD.into(), options, FieldTable::default());
        Ok(in_time(RPC_TIMEOUT, queue).await?.message_count())
    }

    /// Fetches the oldest letter that was not fetched yet.
    pub async fn fetch(&self) -> Result<Option<FetchedDeadLetter>, DeadLetterQueueError> {
        let getting = self.channel.basic_get(DEAD.into(), BasicGetOptions::default());
        Ok(in_time(RPC_TIMEOUT, getting).await?.map(FetchedDeadLetter::from))
    }

    /// Puts a letter's commands back into their queue, and takes the letter away once the broker
    /// has them. Workers treat them as delivered before.
    pub async fn replay(&self, letter: FetchedDeadLetter) -> Result<(), DeadLetterQueueError> {
        let mut table = FieldTable::default();
        table.insert(REPLAYED.into(), AMQPValue::Boolean(true));
        if let Some(value) = TraceParents::read(&letter.message.properties).header() {
            table.insert(TRACEPARENT.into(), value);
        }
        let properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_content_type("application/json".into())
            .with_message_id(letter.id.as_str().into())
            .with_headers(table);
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let publishing = async {
            let publish = self.channel.basic_publish(
                COMMANDS.into(),
                COMMANDS.into(),
                options,
                &letter.body,
                properties,
            );
            publish.await?.await
        };
        match in_time(RPC_TIMEOUT, publishing).await? {
            Confirmation::Ack(None) => self.purge(letter).await,
            _ => Err(BrokerError::NotAccepted.into()),
        }
    }

    /// Takes a letter away for good.
    pub async fn purge(&self, letter: FetchedDeadLetter) -> Result<(), DeadLetterQueueError> {
        in_time(RPC_TIMEOUT, letter.message.ack(BasicAckOptions::default())).await?;
        Ok(())
    }

    /// Puts back what was fetched and stayed.
    pub async fn close(self) -> Result<(), DeadLetterQueueError> {
        in_time(RPC_TIMEOUT, self.connection.close(200, "OK".into())).await?;
        Ok(())
    }
}

impl From<BasicGetMessage> for FetchedDeadLetter {
    fn from(mut message: BasicGetMessage) -> Self {
        let body = std::mem::take(&mut message.data);
        let properties = &message.properties;
        let text = |name| headers::text(properties, name).unwrap_or_default();
        let reason = match text(DEAD_LETTER_REASON) {
            // What the broker itself dead-lettered.
            reason if reason.is_empty() => headers::text(properties, "x-first-death-reason")
                .unwrap_or_else(|| "unknown".to_owned()),
            reason => reason,
        };
        Self {
            id: properties.message_id().as_ref().map(ToString::to_string).unwrap_or_default(),
            reason,
            dead_lettered_at: text(DEAD_LETTERED_AT),
            dead_lettered_by: text(DEAD_LETTERED_BY),
            body,
            message,
        }
    }
}
