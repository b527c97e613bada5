//! The drawn message on its way to every broadcaster, and the election of the one that draws.

use std::time::Duration;

use lapin::{BasicProperties, Channel, Connection, ErrorKind, options::BasicPublishOptions};
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    BrokerUrl,
    connection::{
        BrokerError, Connector, RPC_TIMEOUT, backoff, close_in_background, in_time, lost,
        open_channel,
    },
    exclusive::{ExclusiveConsumer, Queue},
    topology::{self, BROADCAST, BROADCAST_LEADER, Declares},
};

/// Seconds between heartbeats of the connection that holds the leadership. The broker gives the
/// queue up about three of these after its holder froze.
const LEADER_HEARTBEAT_SECS: u16 = 1;

/// Seconds between heartbeats of a connection that frames come on: subscribers wait for them.
const FRAMES_HEARTBEAT_SECS: u16 = 2;

/// How often those that are not elected try again.
const CAMPAIGN_INTERVAL: Duration = Duration::from_millis(500);

/// How long handing a frame to the broker may take: the next is due by then.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(1);

/// Candidates for drawing. The one that holds an exclusive queue is elected.
pub struct Election {
    connector: Connector,
    stop: CancellationToken,
}

/// The elected one. The frames go out on the very connection that holds the queue, so whoever has
/// lost the queue can't publish any more.
pub struct Leader {
    connection: Connection,
    channel: Channel,
}

/// Another one draws now, or nobody.
#[derive(Debug, thiserror::Error)]
#[error("the leadership is lost: {0}")]
pub struct LeadershipLost(String);

/// A broadcaster's own queue of frames.
pub struct FrameSource {
    consumer: ExclusiveConsumer,
}

impl Election {
    /// A candidate that gives up when `stop` is cancelled.
    #[must_use]
    pub fn new(url: &BrokerUrl, connection_name: &str, stop: CancellationToken) -> Self {
        let url = url.with_heartbeat(LEADER_HEARTBEAT_SECS);
        Self { connector: Connector::new(url, connection_name), stop }
    }

    /// Waits until this candidate is elected; `None` once stopped.
    pub async fn win(&self) -> Option<Leader> {
        let mut delays = backoff();
        loop {
            let error = tokio::select! {
                elected = self.campaign() => match elected {
                    Ok(leader) => return Some(leader),
                    Err(error) => error,
                },
                () = self.stop.cancelled() => return None,
            };
            tracing::warn!(%error, "cannot run for election");
            tokio::select! {
                () = sleep(delays.next().unwrap_or(CAMPAIGN_INTERVAL)) => {}
                () = self.stop.cancelled() => return None,
            }
        }
    }

    async fn campaign(&self) -> Result<Leader, BrokerError> {
        let connection = self.connector.connect().await?;
        let elected = hold_leader_queue(&connection).await;
        match elected {
            Ok(channel) => Ok(Leader { connection, channel }),
            Err(error) => {
                close_in_background(connection);
                Err(error)
            }
        }
    }
}

impl Leader {
    /// Publishes a frame to all broadcasters. It is not confirmed: the next one replaces it.
    pub async fn publish(&self, frame: &[u8]) -> Result<(), LeadershipLost> {
        if self.connection.status().blocked() {
            tracing::debug!("no frame: the broker is blocked by an alarm");
            return Ok(());
        }
        let publishing = self.channel.basic_publish(
            BROADCAST.into(),
            "".into(),
            BasicPublishOptions::default(),
            frame,
            BasicProperties::default().with_content_type("application/json".into()),
        );
        in_time(PUBLISH_TIMEOUT, publishing)
            .await
            .map(drop)
            .map_err(|error| LeadershipLost(error.to_string()))
    }

    /// Asks the broker whether the leadership is still held. The queue can go while its connection
    /// stays: an operator may delete it, and so may the majority side of a cluster's partition.
    pub async fn confirm(&self) -> Result<(), LeadershipLost> {
        if self.connection.status().blocked() {
            return Ok(());
        }
        in_time(RPC_TIMEOUT, topology::declare_leader_queue(&self.channel))
            .await
            .map_err(|error| LeadershipLost(error.to_string()))
    }

    /// Ends when the leadership is lost.
    pub async fn lost(&self) -> LeadershipLost {
        lost(&self.connection, &self.channel).await;
        LeadershipLost("the connection ended".to_owned())
    }

    /// Gives the leadership up, so that another one takes over at once.
    pub async fn resign(self) {
        // If the broker does not answer, it finds out by the missing heartbeats.
        let _ = in_time(RPC_TIMEOUT, self.connection.close(200, "OK".into())).await;
    }
}

impl FrameSource {
    /// Consumes this broadcaster's queue, a new one after every fault.
    pub fn start(
        url: &BrokerUrl,
        connection_name: &str,
        on_frame: impl Fn(Vec<u8>) + Send + Sync + 'static,
    ) -> Self {
        let url = url.with_heartbeat(FRAMES_HEARTBEAT_SECS);
        let connector = Connector::new(url, connection_name);
        Self { consumer: ExclusiveConsumer::start(connector, Queue::Frames, on_frame) }
    }

    /// Whether frames can arrive.
    #[must_use]
    pub fn up(&self) -> watch::Receiver<bool> {
        self.consumer.up()
    }

    /// Ends consuming and the connection.
    pub async fn close(self) {
        self.consumer.close().await;
    }
}

fn is_locked(error: &lapin::Error) -> bool {
    const RESOURCE_LOCKED: u16 = 405;
    matches!(error.kind(), ErrorKind::ProtocolError(error) if error.get_id() == RESOURCE_LOCKED)
}

async fn hold_leader_queue(connection: &Connection) -> Result<Channel, BrokerError> {
    let mut channel = open_channel(connection, Declares::Broadcast).await?;
    loop {
        match in_time(RPC_TIMEOUT, topology::declare_leader_queue(&channel)).await {
            Ok(()) => {
                tracing::info!(queue = BROADCAST_LEADER, "elected");
                return Ok(channel);
            }
            // RESOURCE_LOCKED: another connection holds it. That closes only the channel.
            Err(BrokerError::Lapin(error)) if is_locked(&error) => {
                tracing::debug!(queue = BROADCAST_LEADER, "not elected");
            }
            Err(error) => return Err(error),
        }
        sleep(CAMPAIGN_INTERVAL).await;
        channel = in_time(RPC_TIMEOUT, connection.create_channel()).await?;
    }
}
