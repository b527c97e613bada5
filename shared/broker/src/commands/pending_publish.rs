//! A command on its way to the broker. Its requester and the publish connection share it: the
//! command is published or given up, never both.
//!
//! A confirm does not wake a requester that waits for the outcome, unless it asks for that: the
//! reply wakes it soon after. One wake-up less for each write gives 4–5 % more writes.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use contracts::TraceParent;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

/// Maximum time from a command's acceptance to its confirm. It includes waiting for a turn, in
/// the queue and for a connection.
const CONFIRM_DEADLINE: Duration = Duration::from_secs(2);

/// A confirmed command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// True if its outcome will be sent back; false if there was no reply queue to name.
    pub reply_expected: bool,
}

/// Reason for which a command was not confirmed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The broker does not have the command, and will not get it.
    #[error("not accepted: {0}")]
    NotAccepted(&'static str),
    /// The broker may or may not have the command.
    #[error("outcome unknown: {0}")]
    OutcomeUnknown(&'static str),
}

pub(crate) type PublishResult = Result<Confirmed, PublishError>;

/// A command as it is published.
pub(crate) struct EncodedCommand {
    pub(crate) json: Vec<u8>,
    /// The span that publishes it, if its trace is recorded.
    pub(crate) traceparent: Option<TraceParent>,
}

/// The requester's end of a publish. Dropping it gives the command up, unless a publish connection
/// has taken it.
pub struct PublishHandle {
    publish: Arc<Publish>,
    deadline: Instant,
}

/// The publish connection's end. Dropping it ends the publish.
pub(crate) struct PendingPublish {
    /// The command's length as JSON.
    pub(crate) bytes: usize,
    /// True if the command's trace is recorded.
    pub(crate) traced: bool,
    publish: Arc<Publish>,
}

struct Publish {
    state: Mutex<State>,
    wake: Notify,
}

struct State {
    /// The command, until it is taken or given up. It is here, and not in the queue, so that its bytes
    /// are free as soon as it is given up.
    command: Option<EncodedCommand>,
    result: Option<PublishResult>,
    /// True once the requester wants a confirm to wake it.
    wake_on_confirm: bool,
}

impl PublishHandle {
    /// Returns the end of [`PublishHandle::confirmed`].
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Waits for the confirm, until the deadline. `Ok` means that the command is on disk on a majority
    /// of the broker's nodes.
    pub async fn confirmed(&self) -> Result<Confirmed, PublishError> {
        self.publish.lock().wake_on_confirm = true;
        if let Ok(result) = timeout_at(self.deadline, self.publish.ended(|_| true)).await {
            return result;
        }
        self.publish.give_up();
        self.publish.ended(|_| true).await
    }

    /// Waits for any end but a confirm that a reply follows; [`PublishHandle::confirmed`] then returns
    /// it at once.
    pub async fn failed(&self) {
        self.publish.ended(|result| !is_followed_by_reply(result)).await.ok();
    }
}

impl Drop for PublishHandle {
    fn drop(&mut self) {
        self.publish.give_up();
    }
}

impl PendingPublish {
    pub(crate) fn new(command: EncodedCommand, accepted: Instant) -> (Self, PublishHandle) {
        let deadline = accepted + CONFIRM_DEADLINE;
        let (bytes, traced) = (command.json.len(), command.traceparent.is_some());
        let state = State { command: Some(command), result: None, wake_on_confirm: false };
        let publish = Arc::new(Publish { state: Mutex::new(state), wake: Notify::new() });
        let handle = PublishHandle { publish: Arc::clone(&publish), deadline };
        (Self { bytes, traced, publish }, handle)
    }

    /// Takes the command for publishing, unless its requester gave it up before.
    pub(crate) fn take(&self) -> Option<EncodedCommand> {
        self.publish.lock().command.take()
    }

    pub(crate) fn end(self, result: PublishResult) {
        self.publish.end(|_| result);
    }

    /// Ends the publish of a command that was not taken.
    pub(crate) fn refuse(self, why: &'static str) {
        self.end(Err(PublishError::NotAccepted(why)));
    }

    /// Returns whether the requester gave up.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.publish.lock().result.is_some()
    }
}

impl Drop for PendingPublish {
    fn drop(&mut self) {
        self.publish.give_up();
    }
}

impl Publish {
    /// Ends the publish, unless it has ended before.
    fn end(&self, result: impl FnOnce(&State) -> PublishResult) {
        let mut state = self.lock();
        if state.result.is_some() {
            return;
        }
        let result = result(&state);
        if state.wake_on_confirm || !is_followed_by_reply(&result) {
            self.wake.notify_one();
        }
        state.command = None;
        state.result = Some(result);
    }

    fn give_up(&self) {
        self.end(|state| match state.command {
            Some(_) => Err(PublishError::NotAccepted("the broker cannot be reached")),
            None => Err(PublishError::OutcomeUnknown("the broker did not confirm in time")),
        });
    }

    /// Waits for a result of this kind.
    async fn ended(&self, kind: impl Fn(&PublishResult) -> bool) -> PublishResult {
        loop {
            let result = self.lock().result.clone();
            match result {
                Some(result) if kind(&result) => return result,
                _ => self.wake.notified().await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_followed_by_reply(result: &PublishResult) -> bool {
    matches!(result, Ok(Confirmed { reply_expected: true }))
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        task::{Context, Wake, Waker},
    };

    use futures_util::FutureExt;
    use tokio::time::timeout;

    use super::*;

    const REPLY_FOLLOWS: PublishResult = Ok(Confirmed { reply_expected: true });

    fn publish() -> (PendingPublish, PublishHandle) {
        PendingPublish::new(
            EncodedCommand { json: b"{}".to_vec(), traceparent: None },
            Instant::now(),
        )
    }

    #[test]
    fn a_command_is_published_or_given_up_but_never_both() {
        let result = |handle: &PublishHandle| handle.publish.lock().result.clone().unwrap();
        let (pending, handle) = publish();
        handle.publish.give_up();
        assert!(matches!(result(&handle), Err(PublishError::NotAccepted(_))));
        assert!(pending.take().is_none());

        let (pending, handle) = publish();
        assert_eq!(pending.take().unwrap().json, b"{}");
        handle.publish.give_up();
        assert!(matches!(result(&handle), Err(PublishError::OutcomeUnknown(_))));
    }

    #[tokio::test]
    async fn the_time_for_the_confirm_counts_from_the_acceptance() {
        let accepted = Instant::now().checked_sub(CONFIRM_DEADLINE).unwrap();
        let command = EncodedCommand { json: b"{}".to_vec(), traceparent: None };
        let (_pending, handle) = PendingPublish::new(command, accepted);
        let ended = timeout(CONFIRM_DEADLINE / 2, handle.confirmed()).await.unwrap();
        assert!(ended.is_err());
    }

    #[test]
    fn an_abandoned_command_keeps_no_bytes() {
        let (pending, handle) = publish();
        handle.publish.give_up();
        assert!(pending.is_abandoned());
        let (left, handle) = publish();
        drop(handle);
        assert!(left.is_abandoned());
        for abandoned in [pending, left] {
            assert!(abandoned.publish.lock().command.is_none());
        }
    }

    #[tokio::test]
    async fn a_confirm_wakes_only_a_requester_that_asks_for_it_and_is_known_to_all() {
        let (pending, handle) = publish();
        assert!(handle.failed().now_or_never().is_none());
        pending.take().unwrap();
        pending.end(REPLY_FOLLOWS);
        assert!(handle.failed().now_or_never().is_none());
        assert_eq!(handle.confirmed().now_or_never(), Some(REPLY_FOLLOWS));

        let (pending, handle) = publish();
        let mut asking = Box::pin(handle.confirmed());
        assert!(asking.as_mut().now_or_never().is_none());
        pending.take().unwrap();
        pending.end(REPLY_FOLLOWS);
        assert_eq!(asking.as_mut().now_or_never(), Some(REPLY_FOLLOWS));
    }

    #[test]
    fn a_requester_that_leaves_with_its_outcome_is_not_woken_by_that() {
        struct Count(AtomicUsize);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let (pending, handle) = publish();
        let woken = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut waiting = Box::pin(handle.failed());
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        pending.take().unwrap();
        pending.end(REPLY_FOLLOWS);
        drop(waiting);
        drop(handle);
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_requester_that_waits_for_an_outcome_learns_that_none_will_come() {
        let no_reply = Ok(Confirmed { reply_expected: false });
        for result in [no_reply, Err(PublishError::NotAccepted("full"))] {
            let (pending, handle) = publish();
            assert!(handle.failed().now_or_never().is_none());
            pending.take().unwrap();
            pending.end(result.clone());
            assert!(handle.failed().now_or_never().is_some());
            assert_eq!(handle.confirmed().now_or_never(), Some(result));
        }
        // So does the end of a publish connection that has taken the command.
        let (pending, handle) = publish();
        pending.take().unwrap();
        drop(pending);
        assert!(handle.failed().now_or_never().is_some());
        let result = handle.confirmed().now_or_never();
        assert!(matches!(result, Some(Err(PublishError::OutcomeUnknown(_)))), "{result:?}");
    }

    #[tokio::test]
    async fn a_requester_gets_a_result_by_the_deadline_and_keeps_that_result() {
        let (pending, mut handle) = publish();
        handle.deadline = Instant::now();
        let result = handle.confirmed().await;
        assert!(matches!(result, Err(PublishError::NotAccepted(_))), "{result:?}");
        pending.end(REPLY_FOLLOWS);
        assert_eq!(handle.confirmed().await, result);
    }
}
