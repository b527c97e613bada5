//! A command on its way to the broker: who has it, and what its requester is told.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use contracts::TraceParent;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use crate::publisher::{Confirmed, PublishError};

/// The answer to a command whose outcome will be sent back.
const TO_BE_ANSWERED: Answer = Ok(Confirmed { reply_expected: true });

/// How long a command may take from its acceptance to the broker's confirm, its time in the queue
/// and a lane's connecting included.
const CONFIRM_DEADLINE: Duration = Duration::from_secs(2);

/// One command on its way to a lane.
pub(crate) struct PendingPublish {
    /// How long the command is as JSON.
    pub(crate) bytes: usize,
    /// Whether its trace is recorded.
    pub(crate) traced: bool,
    claim: Arc<Claim>,
    confirm: Confirm,
}

/// A command that a lane has taken.
pub(crate) struct TakenCommand {
    pub(crate) publication: Publication,
    claim: Arc<Claim>,
    confirm: Confirm,
}

/// A command that was handed over, and what the broker says to it. Dropping it takes the command
/// back, unless a lane has it already.
pub struct Publishing {
    // Before the claim, which may hold what answers this: nobody is to be woken for what nobody hears.
    confirm: oneshot::Receiver<Answer>,
    claim: PublishHandle,
    deadline: Instant,
    answer: Option<Answer>,
}

/// What the broker said to a command.
type Answer = Result<Confirmed, PublishError>;

type Confirm = oneshot::Sender<Answer>;

/// What a lane publishes of a command.
pub(crate) struct Publication {
    /// The command as JSON.
    pub(crate) json: Vec<u8>,
    /// The span that publishes it, where its trace is recorded.
    pub(crate) traceparent: Option<TraceParent>,
}

/// Who has the command: either a lane takes it, or its requester gives it up.
struct Claim(Mutex<State>);

struct State {
    holder: Holder,
    /// Whether the requester wants to hear of a confirm.
    listening: bool,
}

/// The command is kept here and not in the ticket, so that its bytes are free as soon as it is
/// given up, however long the ticket lies in the queue.
enum Holder {
    /// Nobody has decided yet.
    Nobody(Publication),
    /// A lane has taken it: from now on the broker may have the command.
    PublishConnection,
    /// The broker has it for good, and the requester was not told yet.
    Confirmed(Confirm),
    /// The requester gave up first: no lane may publish it.
    Abandoned,
}

/// The requester's end of a claim. One that leaves, too, gives up what no lane has taken.
struct PublishHandle(Arc<Claim>);

impl Publishing {
    /// Until when the broker must have confirmed.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// What the broker says. `Ok` means that the command is on the disks of a majority of the
    /// brokers that hold the queue. Answers by the deadline.
    pub async fn confirmed(&mut self) -> Result<Confirmed, PublishError> {
        if self.answer.is_none() {
            self.claim.0.listen();
            let answer = timeout_at(self.deadline, &mut self.confirm).await;
            self.answer = answer.ok().and_then(Result::ok);
        }
        // Late, or the lane was ended with the command in its hands.
        self.answer.get_or_insert_with(|| Err(self.claim.give_up())).clone()
    }

    /// Waits for anything but a confirm whose outcome will be sent back: for that, who waits for
    /// the outcome need not be woken. [`Publishing::confirmed`] then says what it was.
    pub async fn failed(&mut self) {
        if self.answer.is_none() {
            let answer = (&mut self.confirm).await;
            self.answer = Some(answer.unwrap_or_else(|_| Err(self.claim.give_up())));
        }
    }
}

impl PendingPublish {
    pub(crate) fn new(publication: Publication) -> (Self, Publishing) {
        let deadline = Instant::now() + CONFIRM_DEADLINE;
        let (sender, confirm) = oneshot::channel();
        let (bytes, traced) = (publication.json.len(), publication.traceparent.is_some());
        let state = State { holder: Holder::Nobody(publication), listening: false };
        let claim = Arc::new(Claim(Mutex::new(state)));
        let claimant = PublishHandle(Arc::clone(&claim));
        let publishing = Publishing { confirm, claim: claimant, deadline, answer: None };
        (Self { bytes, traced, claim, confirm: sender }, publishing)
    }

    /// Takes the command for publishing; none where the requester gave up before.
    pub(crate) fn take(self) -> Option<TakenCommand> {
        let publication = self.claim.decide(Holder::PublishConnection)?;
        Some(TakenCommand { publication, claim: self.claim, confirm: self.confirm })
    }

    /// Tells the requester, if it still waits, that its command is not published.
    pub(crate) fn refuse(self, why: &'static str) {
        // A requester that left, or whose deadline passed, has its answer already.
        let _ = self.confirm.send(Err(PublishError::NotAccepted(why)));
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        matches!(self.claim.state().holder, Holder::Abandoned)
    }
}

impl TakenCommand {
    /// Tells the requester, if it still waits and has to know.
    pub(crate) fn answer(self, answer: Answer) {
        let confirm = if answer == TO_BE_ANSWERED {
            self.claim.confirm(self.confirm)
        } else {
            Some(self.confirm)
        };
        if let Some(confirm) = confirm {
            // A requester that left, or whose deadline passed, has its answer already.
            let _ = confirm.send(answer);
        }
    }
}

impl Claim {
    /// Gives the command to whoever decides first.
    fn decide(&self, holder: Holder) -> Option<Publication> {
        let mut state = self.state();
        if !matches!(state.holder, Holder::Nobody(_)) {
            return None;
        }
        match std::mem::replace(&mut state.holder, holder) {
            Holder::Nobody(publication) => Some(publication),
            Holder::PublishConnection | Holder::Confirmed(_) | Holder::Abandoned => None,
        }
    }

    /// Notes that the broker has the command. Gives back what tells a requester that listens.
    fn confirm(&self, confirm: Confirm) -> Option<Confirm> {
        let mut state = self.state();
        if state.listening {
            return Some(confirm);
        }
        state.holder = Holder::Confirmed(confirm);
        None
    }

    /// Wants to hear of a confirm, also where it was there before.
    fn listen(&self) {
        let mut state = self.state();
        state.listening = true;
        if matches!(state.holder, Holder::Confirmed(_))
            && let Holder::Confirmed(confirm) =
                std::mem::replace(&mut state.holder, Holder::PublishConnection)
        {
            // Whoever calls this has the receiver.
            let _ = confirm.send(TO_BE_ANSWERED);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that could panic half way is done under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PublishHandle {
    /// Gives up, and says what that leaves.
    fn give_up(&self) -> PublishError {
        match self.0.decide(Holder::Abandoned) {
            Some(_) => PublishError::NotAccepted("the broker cannot be reached"),
            None => PublishError::OutcomeUnknown("the broker did not confirm in time"),
        }
    }
}

impl Drop for PublishHandle {
    fn drop(&mut self) {
        self.0.decide(Holder::Abandoned);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        task::{Context, Wake, Waker},
    };

    use futures_util::FutureExt;

    use super::*;

    fn ticket() -> (PendingPublish, Publishing) {
        PendingPublish::new(Publication { json: b"{}".to_vec(), traceparent: None })
    }

    #[test]
    fn a_ticket_is_published_or_abandoned_but_never_both() {
        let (late, publishing) = ticket();
        assert!(matches!(publishing.claim.give_up(), PublishError::NotAccepted(_)));
        assert!(late.take().is_none());

        let (taken, publishing) = ticket();
        assert_eq!(taken.take().unwrap().publication.json, b"{}");
        assert!(matches!(publishing.claim.give_up(), PublishError::OutcomeUnknown(_)));
    }

    #[test]
    fn an_abandoned_ticket_keeps_no_bytes_also_where_its_requester_just_left() {
        let (late, publishing) = ticket();
        publishing.claim.give_up();
        assert!(late.is_abandoned());
        let (left, publishing) = ticket();
        drop(publishing);
        assert!(left.is_abandoned());
    }

    #[tokio::test]
    async fn a_confirm_wakes_only_who_listens_and_is_known_to_all() {
        let (taken, mut publishing) = ticket();
        assert!(publishing.failed().now_or_never().is_none());
        taken.take().unwrap().answer(TO_BE_ANSWERED);
        assert!(publishing.failed().now_or_never().is_none());
        assert_eq!(publishing.confirmed().now_or_never(), Some(TO_BE_ANSWERED));

        let (taken, mut publishing) = ticket();
        let mut listening = Box::pin(publishing.confirmed());
        assert!(listening.as_mut().now_or_never().is_none());
        taken.take().unwrap().answer(TO_BE_ANSWERED);
        assert_eq!(listening.as_mut().now_or_never(), Some(TO_BE_ANSWERED));
    }

    #[test]
    fn who_leaves_with_its_outcome_is_not_woken_by_that() {
        struct Count(AtomicUsize);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let (taken, mut publishing) = ticket();
        let woken = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut waiting = Box::pin(publishing.failed());
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop(waiting);
        taken.take().unwrap().answer(TO_BE_ANSWERED);
        drop(publishing);
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn whoever_waits_for_an_outcome_hears_that_none_will_come() {
        let no_reply = Ok(Confirmed { reply_expected: false });
        for answer in [no_reply, Err(PublishError::NotAccepted("full"))] {
            let (taken, mut publishing) = ticket();
            assert!(publishing.failed().now_or_never().is_none());
            taken.take().unwrap().answer(answer.clone());
            assert!(publishing.failed().now_or_never().is_some());
            assert_eq!(publishing.confirmed().now_or_never(), Some(answer));
        }
        // A lane that ends with the command in its hands tells, too.
        let (taken, mut publishing) = ticket();
        drop(taken.take());
        assert!(publishing.failed().now_or_never().is_some());
        let answer = publishing.confirmed().now_or_never();
        assert!(matches!(answer, Some(Err(PublishError::OutcomeUnknown(_)))), "{answer:?}");
    }
}
