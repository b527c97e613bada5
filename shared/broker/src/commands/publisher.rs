//! Publishing commands. A request puts its command into a bounded queue; each publish connection takes
//! what has gathered there and publishes it as one delivery.

use std::sync::Arc;

use contracts::{Command, TraceParent};
use telemetry::metrics::catalog;
use tokio::{sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    pending_publish::{EncodedCommand, PendingPublish, PublishError, PublishHandle},
    publish_connection::{PublishConnection, Shared},
};
use crate::{connection::Connector, url::BrokerUrl};

const TOO_MANY: &str = "too many writes are waiting for the broker";
const CLOSED: &str = "this service is stopping";

/// Publishes commands with confirms. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    queue: async_channel::Sender<PendingPublish>,
    /// The other end of the queue, to take abandoned commands out of it.
    waiting: async_channel::Receiver<PendingPublish>,
    max_waiting: usize,
    up: watch::Receiver<bool>,
    alarm: watch::Receiver<Option<String>>,
    queue_has_room: watch::Receiver<bool>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Publisher {
    /// Starts the publish connections, for which at most `max_waiting` commands wait. Each batch asks
    /// for replies on the queue that `reply_to` then names.
    #[must_use]
    pub fn start(
        url: BrokerUrl,
        publish_connections: usize,
        max_waiting: usize,
        reply_to: watch::Receiver<Option<String>>,
    ) -> Self {
        let (sender, waiting) = async_channel::unbounded();
        let pool = Connector::new(url, "gateway commands").pool(publish_connections);
        let shared = Arc::new(Shared::new(pool, publish_connections, waiting.clone(), reply_to));
        #[expect(clippy::cast_precision_loss, reason = "there are 64 of them at most")]
        catalog::PUBLISH_CONNECTIONS.register().set(publish_connections as f64);
        let (up, stop) = (shared.up.subscribe(), shared.stop.clone());
        let tasks = TaskTracker::new();
        for number in 0..publish_connections {
            let shared = Arc::clone(&shared);
            tasks.spawn(PublishConnection { number, shared }.run());
        }
        tasks.close();
        let (alarm, queue_has_room) = (shared.alarms.reason(), shared.queue_has_room.subscribe());
        Self { queue: sender, waiting, max_waiting, up, alarm, queue_has_room, tasks, stop }
    }

    /// Returns whether at least one publish connection can publish.
    #[must_use]
    pub fn up(&self) -> watch::Receiver<bool> {
        self.up.clone()
    }

    /// Returns the reason of the broker's alarm while one blocks publishes.
    #[must_use]
    pub fn alarm(&self) -> watch::Receiver<Option<String>> {
        self.alarm.clone()
    }

    /// Returns false while the queue of commands is full.
    #[must_use]
    pub fn queue_has_room(&self) -> watch::Receiver<bool> {
        self.queue_has_room.clone()
    }

    /// Hands a command to the publish connections, with its trace if that is recorded. The time for its confirm counts
    /// from `accepted`.
    pub fn publish(
        &self,
        command: &Command,
        traceparent: Option<TraceParent>,
        accepted: Instant,
    ) -> Result<PublishHandle, PublishError> {
        let json = serde_json::to_vec(command)
            .map_err(|_| PublishError::NotAccepted("the command cannot be written as JSON"))?;
        let (pending, handle) = PendingPublish::new(EncodedCommand { json, traceparent }, accepted);
        if !self.has_room() {
            return Err(PublishError::NotAccepted(TOO_MANY));
        }
        self.queue.try_send(pending).map_err(|_| PublishError::NotAccepted(CLOSED))?;
        Ok(handle)
    }

    /// Returns true if fewer commands wait than may. Abandoned ones count only until their places are needed.
    fn has_room(&self) -> bool {
        let waiting = self.waiting.len();
        // A closed queue takes nothing in any case, and must not lose what it has.
        if waiting < self.max_waiting || self.queue.is_closed() {
            return true;
        }
        for _ in 0..waiting {
            let Ok(pending) = self.waiting.try_recv() else { break };
            if !pending.is_abandoned() {
                // A queue that is closed ends the command.
                let _ = self.queue.try_send(pending);
            }
        }
        self.waiting.len() < self.max_waiting
    }

    /// Publishes the waiting commands, then ends the publish connections.
    pub async fn close(&self) {
        self.queue.close();
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn abandoned_commands_make_room_for_others_while_nothing_can_be_published() {
        let url = BrokerUrl::parse("amqp://guest:guest@127.0.0.1:1/%2f").unwrap();
        let (_reply_to, replies) = watch::channel(None);
        let publisher = Publisher::start(url, 2, 8, replies);
        let action = contracts::Action::Delete { precondition: contracts::Precondition::default() };
        let now = contracts::Timestamp::now();
        let command = Command::new(contracts::MessageId::generate(), now, action);
        let publish = async || publisher.publish(&command, None, Instant::now())?.confirmed().await;
        let fill = || futures_util::future::join_all((0..9).map(|_| publish()));
        let expected = |why| Err(PublishError::NotAccepted(why));
        for _ in 0..2 {
            let results = fill().await;
            let unreachable = expected("the broker cannot be reached");
            assert!(results[..8].iter().all(|result| *result == unreachable));
            assert_eq!(results[8], expected(TOO_MANY));
        }
        publisher.close().await;
    }
}
