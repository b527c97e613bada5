//! Publishing commands. A request hands its command to a bounded queue; publish connections take what gathered
//! there and publish it as one delivery.

use std::time::Duration;

use contracts::{Command, TraceParent};
use telemetry::metrics::catalog;
use tokio::{sync::watch, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    BrokerUrl,
    connection::Connector,
    pending_publish::{PendingPublish, Publication, Publishing},
    publish_connection::{LaneGauge, LaneMeasures, PublishConnection},
};

/// How often abandoned tickets are taken out of the queue while no lane takes any.
const CLEARING_INTERVAL: Duration = Duration::from_millis(100);

const TOO_MANY: &str = "too many writes are waiting for the broker";

/// How many commands are published at once, and how many may wait.
#[derive(Clone, Debug)]
pub struct PublisherSettings {
    /// The broker.
    pub url: BrokerUrl,
    /// What the broker's operators see these connections called.
    pub connection_name: String,
    /// How many publish connections publish, each on a connection of its own.
    pub publish_connections: usize,
    /// How many commands may wait for a lane.
    pub max_waiting: usize,
}

/// Why a command was not confirmed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The broker does not have the command, and will not get it.
    #[error("not accepted: {0}")]
    NotAccepted(&'static str),
    /// The broker may or may not have the command.
    #[error("outcome unknown: {0}")]
    OutcomeUnknown(&'static str),
}

/// The broker has a command for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// Whether its outcome will be sent back: not where there was no reply queue to name.
    pub reply_expected: bool,
}

/// Publishes commands with confirms. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    queue: async_channel::Sender<PendingPublish>,
    up: watch::Receiver<bool>,
    publish_connections: TaskTracker,
    stop: CancellationToken,
}

impl Publisher {
    /// Starts the publish connections. Replies are asked for on the queue that `reply_to` names at the time.
    #[must_use]
    pub fn start(settings: PublisherSettings, reply_to: &watch::Receiver<Option<String>>) -> Self {
        let (queue, tickets) = async_channel::bounded(settings.max_waiting);
        let pool = Connector::new(settings.url, settings.connection_name)
            .pool(settings.publish_connections);
        let (gauge, up) = LaneGauge::new();
        let metrics = LaneMeasures::new();
        #[expect(clippy::cast_precision_loss, reason = "there are 64 publish_connections at most")]
        catalog::PUBLISH_CONNECTIONS.register().set(settings.publish_connections as f64);
        let stop = CancellationToken::new();
        let publish_connections = TaskTracker::new();
        for number in 0..settings.publish_connections {
            let lane = PublishConnection {
                number,
                pool: pool.clone(),
                tickets: tickets.clone(),
                reply_to: reply_to.clone(),
                gauge: gauge.clone(),
                metrics: metrics.clone(),
                stop: stop.clone(),
            };
            publish_connections.spawn(lane.run());
        }
        let clearing = clear_abandoned(queue.downgrade(), tickets, up.clone());
        publish_connections.spawn(stop.clone().run_until_cancelled_owned(clearing));
        publish_connections.close();
        Self { queue, up, publish_connections, stop }
    }

    /// Whether at least one lane can publish.
    #[must_use]
    pub fn up(&self) -> watch::Receiver<bool> {
        self.up.clone()
    }

    /// Hands a command to a lane, with the trace that it belongs to where that is recorded.
    pub fn publish(
        &self,
        command: &Command,
        traceparent: Option<TraceParent>,
    ) -> Result<Publishing, PublishError> {
        let json = serde_json::to_vec(command)
            .map_err(|_| PublishError::NotAccepted("the command cannot be written as JSON"))?;
        let (ticket, publishing) = PendingPublish::new(Publication { json, traceparent });
        self.queue.try_send(ticket).map_err(|_| PublishError::NotAccepted(TOO_MANY))?;
        Ok(publishing)
    }

    /// Publishes what waits, then ends the publish connections.
    pub async fn close(&self) {
        self.queue.close();
        self.stop.cancel();
        self.publish_connections.wait().await;
    }
}

/// Takes abandoned tickets out of the queue while no lane takes any, so that they are in nobody's
/// way. What is still waited for goes back.
async fn clear_abandoned(
    queue: async_channel::WeakSender<PendingPublish>,
    tickets: async_channel::Receiver<PendingPublish>,
    mut up: watch::Receiver<bool>,
) {
    while up.wait_for(|up| !up).await.is_ok() {
        sleep(CLEARING_INTERVAL).await;
        let Some(queue) = queue.upgrade() else { return };
        for _ in 0..tickets.len() {
            let Ok(ticket) = tickets.try_recv() else { break };
            if !ticket.is_abandoned()
                && let Err(error) = queue.try_send(ticket)
            {
                // Others have taken its place in this moment.
                error.into_inner().refuse(TOO_MANY);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use testkit::eventually;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn abandoned_tickets_make_room_for_others_while_no_lane_can_open() {
        let url = BrokerUrl::parse("amqp://guest:guest@127.0.0.1:1/%2f").unwrap();
        let settings = PublisherSettings {
            url,
            connection_name: "test".to_owned(),
            publish_connections: 2,
            max_waiting: 8,
        };
        let (_reply_to, replies) = watch::channel(None);
        let publisher = Publisher::start(settings, &replies);
        let action = contracts::Action::Delete { if_match: None };
        let now = contracts::Timestamp::now();
        let command = Command::new(contracts::MessageId::generate(), now, action);
        let publish = async || publisher.publish(&command, None)?.confirmed().await;
        let fill = || futures_util::future::join_all((0..9).map(|_| publish()));
        let expected = |why| Err(PublishError::NotAccepted(why));
        for _ in 0..2 {
            let answers = fill().await;
            assert!(
                answers[..8]
                    .iter()
                    .all(|answer| *answer == expected("the broker cannot be reached"))
            );
            assert_eq!(answers[8], expected(TOO_MANY));
            eventually("those who gave up are gone", SOON, async || publisher.queue.is_empty())
                .await;
        }
        publisher.close().await;
    }
}
