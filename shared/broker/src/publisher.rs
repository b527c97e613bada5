//! Publishing commands. A request hands its command to a bounded queue; lanes take what gathered
//! there and publish it as one delivery.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use contracts::{Command, TraceParent};
use measures::catalog;
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep, timeout_at},
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

/// How often abandoned tickets are taken out of the queue while no lane takes any.
const CLEARING_INTERVAL: Duration = Duration::from_millis(100);

const TOO_MANY: &str = "too many writes are waiting for the broker";
const UNREACHABLE: &str = "the broker cannot be reached";

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
    /// How long the command is as JSON.
    pub(crate) bytes: usize,
    /// Whether its trace is recorded.
    pub(crate) traced: bool,
    claim: Arc<Claim>,
    confirm: oneshot::Sender<Result<Confirmed, PublishError>>,
}

/// A command that a lane has taken.
pub(crate) struct TakenCommand {
    pub(crate) publication: Publication,
    confirm: oneshot::Sender<Result<Confirmed, PublishError>>,
}

/// What a lane publishes of a command.
pub(crate) struct Publication {
    /// The command as JSON.
    pub(crate) json: Vec<u8>,
    /// The span that publishes it, where its trace is recorded.
    pub(crate) traceparent: Option<TraceParent>,
}

/// Who has the command: either a lane takes it, or its requester gives it up.
struct Claim(Mutex<Holder>);

/// The command is kept here and not in the ticket, so that its bytes are free as soon as it is
/// given up, however long the ticket lies in the queue.
enum Holder {
    /// Nobody has decided yet.
    Nobody(Publication),
    /// A lane has taken it: from now on the broker may have the command.
    Lane,
    /// The requester gave up first: no lane may publish it.
    Abandoned,
}

/// The requester's end of a ticket. One that leaves, too, gives up what no lane has taken.
pub(crate) struct Waiter(Option<Arc<Claim>>);

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
        let clearing = clear_abandoned(queue.downgrade(), tickets, up.clone());
        lanes.spawn(stop.clone().run_until_cancelled_owned(clearing));
        lanes.close();
        Self { queue, up, lanes, stop }
    }

    /// Whether at least one lane can publish.
    #[must_use]
    pub fn up(&self) -> watch::Receiver<bool> {
        self.up.clone()
    }

    /// Publishes a command, and the trace that it belongs to where that is recorded. `Ok` means that it is on
    /// the disks of a majority of the brokers that hold the queue. Answers within 2 s. Dropping the
    /// future takes the command back, unless a lane has it already.
    pub async fn publish(
        &self,
        command: &Command,
        traceparent: Option<TraceParent>,
    ) -> Result<Confirmed, PublishError> {
        let deadline = Instant::now() + CONFIRM_DEADLINE;
        let json = serde_json::to_vec(command)
            .map_err(|_| PublishError::NotAccepted("the command cannot be written as JSON"))?;
        let (ticket, waiter, confirmed) = Ticket::new(Publication { json, traceparent });
        self.queue.try_send(ticket).map_err(|_| PublishError::NotAccepted(TOO_MANY))?;
        match timeout_at(deadline, confirmed).await {
            Ok(Ok(result)) => {
                waiter.answered();
                result
            }
            // Late, or the lane was ended with the ticket in its hands.
            Ok(Err(_)) | Err(_) => Err(waiter.unconfirmed()),
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
    pub(crate) fn new(
        publication: Publication,
    ) -> (Self, Waiter, oneshot::Receiver<Result<Confirmed, PublishError>>) {
        let (confirm, confirmed) = oneshot::channel();
        let (bytes, traced) = (publication.json.len(), publication.traceparent.is_some());
        let claim = Arc::new(Claim(Mutex::new(Holder::Nobody(publication))));
        let waiter = Waiter(Some(Arc::clone(&claim)));
        (Self { bytes, traced, claim, confirm }, waiter, confirmed)
    }

    /// Takes the command for publishing; none where the requester gave up before.
    pub(crate) fn take(self) -> Option<TakenCommand> {
        let publication = self.claim.decide(Holder::Lane)?;
        Some(TakenCommand { publication, confirm: self.confirm })
    }

    /// Tells the requester, if it still waits, that its command is not published.
    pub(crate) fn refuse(self, why: &'static str) {
        // A requester that left, or whose deadline passed, has its answer already.
        let _ = self.confirm.send(Err(PublishError::NotAccepted(why)));
    }

    fn is_abandoned(&self) -> bool {
        matches!(*self.claim.holder(), Holder::Abandoned)
    }
}

impl TakenCommand {
    /// Tells the requester, if it still waits.
    pub(crate) fn answer(self, result: Result<Confirmed, PublishError>) {
        // A requester that left, or whose deadline passed, has its answer already.
        let _ = self.confirm.send(result);
    }
}

impl Claim {
    /// Gives the command to whoever decides first.
    fn decide(&self, holder: Holder) -> Option<Publication> {
        let mut held = self.holder();
        if !matches!(*held, Holder::Nobody(_)) {
            return None;
        }
        match std::mem::replace(&mut *held, holder) {
            Holder::Nobody(publication) => Some(publication),
            Holder::Lane | Holder::Abandoned => None,
        }
    }

    fn holder(&self) -> MutexGuard<'_, Holder> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    /// There is nothing to give up any more.
    fn answered(mut self) {
        self.0 = None;
    }

    /// Gives up, and says what that leaves.
    fn unconfirmed(mut self) -> PublishError {
        match self.0.take().and_then(|claim| claim.decide(Holder::Abandoned)) {
            Some(_) => PublishError::NotAccepted(UNREACHABLE),
            None => PublishError::OutcomeUnknown("the broker did not confirm in time"),
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if let Some(claim) = self.0.take() {
            claim.decide(Holder::Abandoned);
        }
    }
}

/// Takes abandoned tickets out of the queue while no lane takes any, so that they are in nobody's
/// way. What is still waited for goes back.
async fn clear_abandoned(
    queue: async_channel::WeakSender<Ticket>,
    tickets: async_channel::Receiver<Ticket>,
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
    use super::*;

    fn ticket() -> (Ticket, Waiter) {
        let (ticket, waiter, _confirmed) =
            Ticket::new(Publication { json: b"{}".to_vec(), traceparent: None });
        (ticket, waiter)
    }

    #[test]
    fn a_ticket_is_published_or_abandoned_but_never_both() {
        let (late, waiter) = ticket();
        assert!(matches!(waiter.unconfirmed(), PublishError::NotAccepted(_)));
        assert!(late.take().is_none());

        let (taken, waiter) = ticket();
        assert_eq!(taken.take().unwrap().publication.json, b"{}");
        assert!(matches!(waiter.unconfirmed(), PublishError::OutcomeUnknown(_)));
    }

    #[test]
    fn an_abandoned_ticket_keeps_no_bytes_also_where_its_requester_just_left() {
        let (late, waiter) = ticket();
        waiter.unconfirmed();
        assert!(late.is_abandoned());
        let (left, waiter) = ticket();
        drop(waiter);
        assert!(left.is_abandoned());
    }

    #[tokio::test]
    async fn abandoned_tickets_make_room_for_others_while_no_lane_can_open() {
        let url = BrokerUrl::parse("amqp://guest:guest@127.0.0.1:1/%2f").unwrap();
        let settings =
            PublisherSettings { url, connection_name: "test".to_owned(), lanes: 2, max_waiting: 8 };
        let (_reply_to, replies) = watch::channel(None);
        let publisher = Publisher::start(settings, &replies);
        let action = contracts::Action::Delete { if_match: None };
        let now = contracts::Timestamp::now();
        let command = Command::new(contracts::MessageId::generate(), now, action);
        let fill =
            || futures_util::future::join_all((0..9).map(|_| publisher.publish(&command, None)));
        let expected = |why| Err(PublishError::NotAccepted(why));
        for _ in 0..2 {
            let answers = fill().await;
            assert!(answers[..8].iter().all(|answer| *answer == expected(UNREACHABLE)));
            assert_eq!(answers[8], expected(TOO_MANY));
            // So that those who gave up are gone, and nobody else.
            sleep(CLEARING_INTERVAL * 3).await;
        }
        publisher.close().await;
    }
}
