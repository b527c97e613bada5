//! Publishing commands. A request hands its command to a bounded queue; lanes take what gathered
//! there and publish it as one delivery.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use contracts::Command;
use measures::catalog;
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    BrokerUrl,
    connection::Connector,
    lane::{Lane, LaneGauge, LaneMeasures},
};

/// How long a command may take from its acceptance to the broker's confirm, its time in the queue
/// and a lane's connecting included.
const CONFIRM_DEADLINE: Duration = Duration::from_secs(2);

/// How many commands are published at once, and how many may wait.
#[derive(Clone, Debug)]
pub struct PublisherSettings {
    /// The broker.
    pub url: BrokerUrl,
    /// What the broker's operators see these connections called.
    pub connection_name: String,
    /// How many lanes publish, each on a connection of its own.
    pub lanes: usize,
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
    queue: async_channel::Sender<Ticket>,
    up: watch::Receiver<bool>,
    lanes: TaskTracker,
    stop: CancellationToken,
}

/// One command on its way to a lane.
pub(crate) struct Ticket {
    /// The command as JSON.
    pub(crate) json: Vec<u8>,
    claim: Arc<AtomicU8>,
    confirm: oneshot::Sender<Result<Confirmed, PublishError>>,
}

/// Nobody has decided about the ticket yet.
const WAITING: u8 = 0;
/// A lane has taken it: from now on the broker may have the command.
const TAKEN: u8 = 1;
/// The requester gave up first: no lane may publish it.
const ABANDONED: u8 = 2;

impl Publisher {
    /// Starts the lanes. Replies are asked for on the queue that `reply_to` names at the time.
    #[must_use]
    pub fn start(settings: PublisherSettings, reply_to: &watch::Receiver<Option<String>>) -> Self {
        let (queue, tickets) = async_channel::bounded(settings.max_waiting);
        let pool = Connector::new(settings.url, settings.connection_name).pool(settings.lanes);
        let (gauge, up) = LaneGauge::new();
        let measures = LaneMeasures::new();
        #[expect(clippy::cast_precision_loss, reason = "there are 64 lanes at most")]
        catalog::PUBLISH_LANES.register().set(settings.lanes as f64);
        let stop = CancellationToken::new();
        let lanes = TaskTracker::new();
        for number in 0..settings.lanes {
            let lane = Lane {
                number,
                pool: pool.clone(),
                tickets: tickets.clone(),
                reply_to: reply_to.clone(),
                gauge: gauge.clone(),
                measures: measures.clone(),
                stop: stop.clone(),
            };
            lanes.spawn(lane.run());
        }
        lanes.close();
        Self { queue, up, lanes, stop }
    }

    /// Whether at least one lane can publish.
    #[must_use]
    pub fn up(&self) -> watch::Receiver<bool> {
        self.up.clone()
    }

    /// Publishes a command. `Ok` means that it is on the disks of a majority of the brokers that
    /// hold the queue. Answers within 2 s. Dropping the future does not take the command back.
    pub async fn publish(&self, command: &Command) -> Result<Confirmed, PublishError> {
        let deadline = Instant::now() + CONFIRM_DEADLINE;
        let json = serde_json::to_vec(command)
            .map_err(|_| PublishError::NotAccepted("the command cannot be written as JSON"))?;
        let claim = Arc::new(AtomicU8::new(WAITING));
        let (confirm, confirmed) = oneshot::channel();
        let ticket = Ticket { json, claim: Arc::clone(&claim), confirm };
        self.queue
            .try_send(ticket)
            .map_err(|_| PublishError::NotAccepted("too many writes are waiting for the broker"))?;
        match timeout_at(deadline, confirmed).await {
            Ok(Ok(result)) => result,
            // Late, or the lane was ended with the ticket in its hands.
            Ok(Err(_)) | Err(_) => Err(unconfirmed(&claim)),
        }
    }

    /// Publishes what waits, then ends the lanes.
    pub async fn close(&self) {
        self.queue.close();
        self.stop.cancel();
        self.lanes.wait().await;
    }
}

impl Ticket {
    /// Takes the ticket for publishing; false where the requester gave up before.
    pub(crate) fn take(&self) -> bool {
        self.claim.compare_exchange(WAITING, TAKEN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Tells the requester, if it still waits.
    pub(crate) fn answer(self, result: Result<Confirmed, PublishError>) {
        // A requester that left, or whose deadline passed, has its answer already.
        let _ = self.confirm.send(result);
    }
}

fn unconfirmed(claim: &AtomicU8) -> PublishError {
    match claim.compare_exchange(WAITING, ABANDONED, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => PublishError::NotAccepted("the broker cannot be reached"),
        Err(_) => PublishError::OutcomeUnknown("the broker did not confirm in time"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_published_or_abandoned_but_never_both() {
        let claim = AtomicU8::new(WAITING);
        assert!(matches!(unconfirmed(&claim), PublishError::NotAccepted(_)));
        let (confirm, _confirmed) = oneshot::channel();
        let ticket = Ticket { json: Vec::new(), claim: Arc::new(claim), confirm };
        assert!(!ticket.take());

        let (confirm, _confirmed) = oneshot::channel();
        let claim = Arc::new(AtomicU8::new(WAITING));
        let ticket = Ticket { json: Vec::new(), claim: Arc::clone(&claim), confirm };
        assert!(ticket.take());
        assert!(matches!(unconfirmed(&claim), PublishError::OutcomeUnknown(_)));
    }
}
