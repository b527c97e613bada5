//! A broadcaster's queue of frames.

use tokio::sync::watch;

use crate::{
    connection::Connector,
    exclusive::{ExclusiveConsumer, ExclusiveQueue},
    url::BrokerUrl,
};

/// Seconds between heartbeats of a connection that frames come on: subscribers wait for them.
const HEARTBEAT_SECS: u16 = 2;

/// Consumes a broadcaster's own queue of frames.
pub struct FrameSource {
    consumer: ExclusiveConsumer,
}

impl FrameSource {
    /// Consumes a queue of frames, a new one after every fault.
    pub fn start(
        url: &BrokerUrl,
        connection_name: &str,
        on_frame: impl Fn(Vec<u8>) + Send + Sync + 'static,
    ) -> Self {
        let connector = Connector::new(url.with_heartbeat(HEARTBEAT_SECS), connection_name);
        Self { consumer: ExclusiveConsumer::start(connector, ExclusiveQueue::Frames, on_frame) }
    }

    /// Returns whether frames can arrive.
    #[must_use]
    pub fn up(&self) -> watch::Receiver<bool> {
        self.consumer.up.clone()
    }

    /// Ends consuming and the connection.
    pub async fn close(self) {
        self.consumer.close().await;
    }
}
