//! The queue of dead letters, for an operator: read one by one, replayed or purged.

use lapin::{
    Channel, Confirmation, Connection,
    message::BasicGetMessage,
    options::{BasicAckOptions, BasicGetOptions},
    types::FieldTable,
};

use crate::{
    channel::{open_channel, persistent_json, publish_confirmed},
    connection::{Connector, RPC_TIMEOUT, in_time},
    error::BrokerError,
    headers::{self, DEAD_LETTER_REASON, DEAD_LETTERED_AT, DEAD_LETTERED_BY, REPLAYED},
    topology::{self, COMMANDS, DEAD_LETTERS, Purpose},
    traceparents::TraceParents,
    url::BrokerUrl,
};

/// The queue of dead letters. A fetched one that is neither replayed nor purged goes back into the
/// queue only when this is closed or dropped, so each is fetched once.
pub struct DeadLetterQueue {
    connection: Connection,
    channel: Channel,
}

/// A fetched dead letter. Nobody else can fetch it meanwhile. Its texts are for an operator's terminal,
/// and have no control characters, whatever another publisher set.
pub struct FetchedDeadLetter {
    /// Its message id; empty if another publisher set none.
    pub id: String,
    /// Reason for the operator.
    pub reason: String,
    /// Time of dead-lettering, in RFC 3339.
    pub dead_lettered_at: String,
    /// Host that dead-lettered it.
    pub dead_lettered_by: String,
    /// The command or delivery.
    pub body: Vec<u8>,
    message: BasicGetMessage,
}

impl DeadLetterQueue {
    /// Connects.
    pub async fn open(url: BrokerUrl) -> Result<Self, BrokerError> {
        let connector = Connector::new(url.with_largest_frames(), "dead letters");
        let connection = connector.connect().await?;
        let channel = open_channel(&connection, Purpose::PublishCommands).await?;
        Ok(Self { connection, channel })
    }

    /// Returns the number of dead letters that can be fetched.
    pub async fn count(&self) -> Result<u32, BrokerError> {
        in_time(RPC_TIMEOUT, topology::message_count(&self.channel, DEAD_LETTERS)).await
    }

    /// Fetches the oldest dead letter that is not fetched yet.
    pub async fn fetch(&self) -> Result<Option<FetchedDeadLetter>, BrokerError> {
        let getting = self.channel.basic_get(DEAD_LETTERS.into(), BasicGetOptions::default());
        Ok(in_time(RPC_TIMEOUT, getting).await?.map(FetchedDeadLetter::from))
    }

    /// Puts a dead letter's commands back into their queue, and purges it once that is confirmed.
    /// Workers treat the commands as redelivered.
    pub async fn replay(&self, dead_letter: FetchedDeadLetter) -> Result<(), BrokerError> {
        let mut headers = FieldTable::default();
        headers.insert(REPLAYED.into(), true.into());
        let traceparents = TraceParents::read(&dead_letter.message.properties);
        let properties =
            persistent_json(headers, &traceparents).with_message_id(dead_letter.id.as_str().into());
        let publishing = publish_confirmed(&self.channel, COMMANDS, &dead_letter.body, properties);
        match in_time(RPC_TIMEOUT, publishing).await? {
            Confirmation::Ack(None) => self.purge(dead_letter).await,
            _ => Err(BrokerError::NotAccepted),
        }
    }

    /// Deletes a dead letter.
    pub async fn purge(&self, dead_letter: FetchedDeadLetter) -> Result<(), BrokerError> {
        in_time(RPC_TIMEOUT, dead_letter.message.ack(BasicAckOptions::default())).await?;
        Ok(())
    }

    /// Puts back the fetched dead letters that are neither replayed nor purged.
    pub async fn close(self) -> Result<(), BrokerError> {
        in_time(RPC_TIMEOUT, self.connection.close(200, "OK".into())).await
    }
}

impl From<BasicGetMessage> for FetchedDeadLetter {
    fn from(mut message: BasicGetMessage) -> Self {
        let body = std::mem::take(&mut message.data);
        let properties = &message.properties;
        let text = |name| headers::text(properties, name).map(|text| printable(&text));
        let id = properties.message_id().as_ref();
        Self {
            id: id.map(|id| printable(&id.to_string())).unwrap_or_default(),
            reason: text(DEAD_LETTER_REASON)
                // The broker's own reason, if it dead-lettered this by itself.
                .or_else(|| text("x-first-death-reason"))
                .unwrap_or_else(|| "unknown".to_owned()),
            dead_lettered_at: text(DEAD_LETTERED_AT).unwrap_or_default(),
            dead_lettered_by: text(DEAD_LETTERED_BY).unwrap_or_default(),
            body,
            message,
        }
    }
}

fn printable(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}
