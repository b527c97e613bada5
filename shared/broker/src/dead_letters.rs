//! Parking what cannot be applied, with headers that say why, where and when.

use contracts::Timestamp;
use deadpool_lapin::Connection as PooledConnection;
use lapin::{
    BasicProperties, Channel, Confirmation,
    options::BasicPublishOptions,
    types::{AMQPValue, FieldTable},
};
use telemetry::metrics::{Counter, catalog};
use tokio::time::{Duration, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    BrokerUrl, TraceParents,
    connection::{
        BrokerError, ConnectionPool, Connector, RPC_TIMEOUT, backoff, close_in_background, in_time,
        open_confirming_channel,
    },
    headers::{
        DEAD_LETTER_REASON, DEAD_LETTERED_AT, DEAD_LETTERED_BY, DEAD_LETTERED_FROM, TRACEPARENT,
    },
    topology::{COMMANDS, DEAD, PERSISTENT},
};

/// Something that cannot be applied.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The command, or the whole delivery where that is no batch, as it came.
    pub body: Vec<u8>,
    /// Why it cannot be applied, for the operator.
    pub reason: String,
    /// The traces that it belongs to, where those are recorded.
    pub traceparents: TraceParents,
}

/// The most bytes of a reason that are kept. It may quote what it is about, of any length, and headers
/// have to fit into one frame.
const MAX_REASON_BYTES: usize = 500;

/// Publishes to `messages.dead`.
pub struct DeadLetterPublisher {
    pool: ConnectionPool,
    channel: Option<(PooledConnection, Channel)>,
    host: String,
    stop: CancellationToken,
    parked: Counter,
}

impl DeadLetterPublisher {
    /// Connects when something is first parked. `host` is written into each header.
    #[must_use]
    pub fn new(
        url: BrokerUrl,
        connection_name: &str,
        host: String,
        stop: CancellationToken,
    ) -> Self {
        let pool = Connector::new(url, connection_name).pool(1);
        Self { pool, channel: None, host, stop, parked: catalog::DEAD_LETTERED.register() }
    }

    /// Parks a letter. Tries until the broker has confirmed it: what is neither applied nor parked
    /// must not be acked. False where `stop` came first.
    #[must_use]
    pub async fn park(&mut self, letter: &DeadLetter) -> bool {
        let mut delays = backoff();
        let stop = self.stop.clone();
        loop {
            let published = tokio::select! {
                published = self.publish(letter) => published,
                () = stop.cancelled() => return false,
            };
            match published {
                Ok(()) => {
                    self.parked.increment(1);
                    tracing::warn!(reason = short(&letter.reason), "parked in {DEAD}");
                    return true;
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot park a command");
                    self.disconnect();
                }
            }
            tokio::select! {
                () = sleep(delays.next().unwrap_or(Duration::from_secs(1))) => {}
                () = self.stop.cancelled() => return false,
            }
        }
    }

    async fn publish(&mut self, letter: &DeadLetter) -> Result<(), BrokerError> {
        let headers = self.headers(letter);
        let (connection, channel) = match &self.channel {
            Some((connection, channel)) if channel.status().connected() => (connection, channel),
            _ => {
                // First, for the pool has room for one connection.
                self.disconnect();
                let connection = self.pool.get().await?;
                match open_confirming_channel(&connection).await {
                    Ok(channel) => {
                        let (connection, channel) = self.channel.insert((connection, channel));
                        (&*connection, &*channel)
                    }
                    Err(error) => {
                        close_in_background(PooledConnection::take(connection));
                        return Err(error);
                    }
                }
            }
        };
        let properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_content_type("application/json".into())
            .with_message_id(Uuid::now_v7().to_string().into())
            .with_headers(headers);
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let publishing = async {
            let publish =
                channel.basic_publish(DEAD.into(), DEAD.into(), options, &letter.body, properties);
            publish.await?.await
        };
        tokio::pin!(publishing);
        loop {
            let confirmed = in_time(RPC_TIMEOUT, publishing.as_mut()).await;
            let status = connection.status();
            if matches!(confirmed, Err(BrokerError::Timeout))
                && status.blocked()
                && status.connected()
            {
                // It is on its way, and the broker takes it when its alarm is over. Another try would
                // park it twice, and a connection that is blocked cannot even be closed.
                tracing::warn!("parking waits for the end of the broker's alarm");
                continue;
            }
            return match confirmed? {
                Confirmation::Ack(None) => Ok(()),
                _ => Err(BrokerError::NotAccepted),
            };
        }
    }

    fn disconnect(&mut self) {
        if let Some((connection, _channel)) = self.channel.take() {
            close_in_background(PooledConnection::take(connection));
        }
    }

    fn headers(&self, letter: &DeadLetter) -> FieldTable {
        let mut headers = FieldTable::default();
        let mut insert = |name: &str, value: &str| {
            headers.insert(name.into(), AMQPValue::LongString(value.into()));
        };
        insert(DEAD_LETTER_REASON, short(&letter.reason));
        insert(DEAD_LETTERED_BY, &self.host);
        insert(DEAD_LETTERED_AT, &Timestamp::now().to_string());
        insert(DEAD_LETTERED_FROM, COMMANDS);
        if let Some(value) = letter.traceparents.header() {
            headers.insert(TRACEPARENT.into(), value);
        }
        headers
    }
}

fn short(reason: &str) -> &str {
    reason.get(..reason.floor_char_boundary(MAX_REASON_BYTES)).unwrap_or_default()
}
