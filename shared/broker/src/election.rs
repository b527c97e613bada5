//! The election of the broadcaster that samples and publishes frames.

use std::time::Duration;

use lapin::{Channel, Connection, ErrorKind};
use telemetry::error_chain;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::Backoff,
    channel::{lost, open_channel, publish_unconfirmed},
    connection::{Connector, RPC_TIMEOUT, close, in_time},
    error::{BrokerError, ClientError},
    topology::{self, BROADCAST, BROADCAST_LEADER, Purpose},
    url::BrokerUrl,
};

/// Seconds between heartbeats of the leader's connection. The broker deletes its queue about three
/// of these after the leader froze.
const HEARTBEAT_SECS: u16 = 1;

/// Pause between attempts to be elected.
const CAMPAIGN_INTERVAL: Duration = Duration::from_millis(500);

/// Maximum time for publishing a frame: the next is due by then.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(1);

/// A candidate for the leadership. The one that holds an exclusive queue is the leader.
pub struct Election {
    connector: Connector,
    stop: CancellationToken,
}

/// The leadership. Frames go out on the very connection that holds the queue, so a broadcaster that
/// has lost the queue can't publish any more.
pub struct Leader {
    connection: Connection,
    channel: Channel,
}

impl Election {
    /// Makes a candidate that withdraws when `stop` is cancelled.
    #[must_use]
    pub fn new(url: &BrokerUrl, stop: CancellationToken) -> Self {
        let url = url.with_heartbeat(HEARTBEAT_SECS);
        Self { connector: Connector::new(url, "broadcaster sampler"), stop }
    }

    /// Waits until this candidate is elected; `None` once stopped.
    pub async fn win(&self) -> Option<Leader> {
        self.stop.run_until_cancelled(self.campaign()).await
    }

    async fn campaign(&self) -> Leader {
        let mut backoff = Backoff::default();
        loop {
            match self.hold_leader_queue().await {
                Ok(leader) => return leader,
                Err(error) => tracing::warn!(
                    error = %error_chain(&error),
                    "failed to take part in the election; reconnecting"
                ),
            }
            backoff.pause().await;
        }
    }

    async fn hold_leader_queue(&self) -> Result<Leader, BrokerError> {
        let connection = self.connector.connect().await?;
        let mut channel = open_channel(&connection, Purpose::Broadcast).await?;
        loop {
            match in_time(RPC_TIMEOUT, topology::declare_leader_queue(&channel)).await {
                Ok(()) => {
                    tracing::info!(queue = BROADCAST_LEADER, "elected leader");
                    return Ok(Leader { connection, channel });
                }
                // Another connection holds the queue. That closes only the channel.
                Err(BrokerError::Client(error)) if is_locked(&error) => {
                    tracing::debug!(queue = BROADCAST_LEADER, "another broadcaster is the leader");
                }
                Err(error) => return Err(error),
            }
            sleep(CAMPAIGN_INTERVAL).await;
            channel = in_time(RPC_TIMEOUT, connection.create_channel()).await?;
        }
    }
}

impl Leader {
    /// Publishes a frame to all broadcasters. It is not confirmed: the next one replaces it. An error
    /// means that the leadership is lost.
    pub async fn publish(&self, frame: &[u8]) -> Result<(), BrokerError> {
        if self.connection.status().blocked() {
            tracing::debug!("no frame published: the broker is blocked by an alarm");
            return Ok(());
        }
        in_time(PUBLISH_TIMEOUT, publish_unconfirmed(&self.channel, BROADCAST, "", frame)).await
    }

    /// Checks that the leadership is still held. The queue can go while its connection stays: an
    /// operator may delete it, and so may the majority side of a cluster's partition.
    pub async fn confirm(&self) -> Result<(), BrokerError> {
        if self.connection.status().blocked() {
            return Ok(());
        }
        in_time(RPC_TIMEOUT, topology::declare_leader_queue(&self.channel)).await
    }

    /// Returns once the leadership is lost.
    pub async fn lost(&self) -> BrokerError {
        lost(&self.connection, &self.channel).await;
        BrokerError::Lost
    }

    /// Resigns the leadership, so that another broadcaster takes over at once.
    pub async fn resign(self) {
        close(self.connection).await;
    }
}

fn is_locked(error: &ClientError) -> bool {
    const RESOURCE_LOCKED: u16 = 405;
    matches!(error.kind(), ErrorKind::ProtocolError(error) if error.get_id() == RESOURCE_LOCKED)
}
