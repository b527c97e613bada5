//! The election of the broadcaster that samples and publishes frames.

use std::time::Duration;

use lapin::{Channel, Connection, ErrorKind};
use telemetry::OutageLog;
use tokio::{sync::watch, time::sleep};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    alarms::Alarms,
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
    up: watch::Sender<bool>,
    alarms: Alarms,
    outage: OutageLog,
    stop: CancellationToken,
}

/// The leadership. Frames go out on the very connection that holds the queue, so a broadcaster that
/// has lost the queue can't publish any more.
pub struct Leader {
    connection: Connection,
    channel: Channel,
    _following_alarms: AbortOnDropHandle<()>,
}

impl Election {
    /// Makes a candidate that withdraws when `stop` is cancelled.
    #[must_use]
    pub fn new(url: &BrokerUrl, stop: CancellationToken) -> Self {
        let url = url.with_heartbeat(HEARTBEAT_SECS);
        Self {
            connector: Connector::new(url, "broadcaster sampler"),
            up: watch::Sender::new(false),
            alarms: Alarms::default(),
            outage: OutageLog::new("take part in the election of the leader"),
            stop,
        }
    }

    /// Returns whether this candidate takes part, as a leader or as one that may become it.
    #[must_use]
    pub fn up(&self) -> watch::Receiver<bool> {
        self.up.subscribe()
    }

    /// Returns the reason of the broker's alarm while one blocks the leader's frames. Other candidates
    /// do not publish, and so do not learn of alarms.
    #[must_use]
    pub fn alarm(&self) -> watch::Receiver<Option<String>> {
        self.alarms.reason()
    }

    /// Reports that this candidate does not take part any more, since its leadership was lost. Connecting
    /// again to a frozen broker may take long.
    pub fn leadership_lost(&self) {
        self.up.send_replace(false);
    }

    /// Waits until this candidate is elected; `None` once stopped.
    pub async fn win(&self) -> Option<Leader> {
        let mut backoff = Backoff::default();
        loop {
            let error = match self.stop.run_until_cancelled(self.connector.connect()).await? {
                Ok(connection) => {
                    let campaign = self.hold_leader_queue(&connection);
                    match self.stop.run_until_cancelled(campaign).await {
                        Some(Ok(channel)) => {
                            let following_alarms = self.alarms.follow(&connection);
                            return Some(Leader {
                                connection,
                                channel,
                                _following_alarms: following_alarms,
                            });
                        }
                        Some(Err(error)) => error,
                        None => {
                            close(connection).await;
                            return None;
                        }
                    }
                }
                Err(error) => error,
            };
            self.up.send_replace(false);
            self.outage.failed(&error);
            self.stop.run_until_cancelled(backoff.pause()).await?;
        }
    }

    /// Returns the channel that holds the queue, once no other connection does.
    async fn hold_leader_queue(&self, connection: &Connection) -> Result<Channel, BrokerError> {
        let mut channel = open_channel(connection, Purpose::Broadcast).await?;
        loop {
            let held = match in_time(RPC_TIMEOUT, topology::declare_leader_queue(&channel)).await {
                Ok(()) => true,
                // Another connection holds the queue. That closes only the channel.
                Err(BrokerError::Client(error)) if is_locked(&error) => false,
                Err(error) => return Err(error),
            };
            self.outage.succeeded();
            self.up.send_if_modified(|up| !std::mem::replace(up, true));
            if held {
                return Ok(channel);
            }
            tracing::debug!(queue = BROADCAST_LEADER, "another broadcaster is the leader");
            sleep(CAMPAIGN_INTERVAL).await;
            channel = in_time(RPC_TIMEOUT, connection.create_channel()).await?;
        }
    }
}

impl Leader {
    /// Publishes a frame to all broadcasters. It is not confirmed: the next one replaces it. An error
    /// means that the leadership is lost.
    pub async fn publish(&self, frame: &[u8]) -> Result<(), BrokerError> {
        let publishing = publish_unconfirmed(&self.channel, BROADCAST, "", frame);
        self.unless_blocked(in_time(PUBLISH_TIMEOUT, publishing)).await
    }

    /// Checks that the leadership is still held. The queue can go while its connection stays: an
    /// operator may delete it, and so may the majority side of a cluster's partition.
    pub async fn confirm(&self) -> Result<(), BrokerError> {
        let confirming = topology::declare_leader_queue(&self.channel);
        self.unless_blocked(in_time(RPC_TIMEOUT, confirming)).await
    }

    /// Does nothing while an alarm blocks the connection, and forgives a timeout if one has begun
    /// meanwhile: another leader could not publish either.
    async fn unless_blocked(
        &self,
        work: impl Future<Output = Result<(), BrokerError>>,
    ) -> Result<(), BrokerError> {
        let blocked = || self.connection.status().blocked();
        if blocked() {
            return Ok(());
        }
        match work.await {
            Err(BrokerError::Timeout) if blocked() => Ok(()),
            done => done,
        }
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
