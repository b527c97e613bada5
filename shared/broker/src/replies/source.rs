//! A gateway's reply queue.

use contracts::Reply;
use tokio::sync::watch;

use crate::{
    connection::Connector,
    exclusive::{ExclusiveConsumer, ExclusiveQueue},
    url::BrokerUrl,
};

/// Consumes a gateway's reply queue.
pub struct ReplySource {
    consumer: ExclusiveConsumer,
}

impl ReplySource {
    /// Consumes a reply queue, a new one after every fault, and hands each reply to `on_reply`.
    pub fn start(
        url: BrokerUrl,
        connection_name: &str,
        on_reply: impl Fn(Reply) + Send + Sync + 'static,
    ) -> Self {
        let on_body = move |body: Vec<u8>| match serde_json::from_slice::<Vec<Reply>>(&body) {
            Ok(replies) => replies.into_iter().for_each(&on_reply),
            Err(error) => {
                tracing::warn!(%error, "failed to read replies; their writes are answered with 202");
            }
        };
        let connector = Connector::new(url, connection_name);
        Self { consumer: ExclusiveConsumer::start(connector, ExclusiveQueue::Replies, on_body) }
    }

    /// Returns the reply queue's name while there is one.
    #[must_use]
    pub fn queue_name(&self) -> watch::Receiver<Option<String>> {
        self.consumer.queue_name.clone()
    }

    /// Returns whether replies can arrive.
    #[must_use]
    pub fn up(&self) -> watch::Receiver<bool> {
        self.consumer.up.clone()
    }

    /// Ends consuming and the connection.
    pub async fn close(self) {
        self.consumer.close().await;
    }
}
