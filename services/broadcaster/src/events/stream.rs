//! The steps of an event stream, whatever brings them to the client: what the follower finds, and what time brings.

use std::time::Duration;

use broker::Backoff;
use contracts::{EventPosition, Timestamp};
use futures_util::{Stream, stream};
use telemetry::metrics::{Counter, GaugeGuard};
use tokio::time::{Instant, sleep_until};

use super::{
    follower::{Follower, Item, Next},
    metrics::Transport,
    tail::Tail,
    user_limit::UserPermit,
};
use crate::limits::token_expiry::{Due, TokenExpiry};

/// A step of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Item(Item),
    /// Shows that the stream is alive.
    Comment,
    /// Position of an idle client by now. Without it, its position would expire.
    Checkpoint(EventPosition),
    /// The client's token expires at this time.
    Expiring(Timestamp),
    /// The last step.
    End(End),
}

/// Reasons to end a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It has lasted long enough. Streams that end now and then spread over the replicas.
    Aged,
    /// The user has opened too many newer ones.
    Displaced,
    /// The client's token has expired.
    Expired,
}

/// Times of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// Silence after which a comment is due.
    pub(crate) comment: Duration,
    /// Interval of checkpoints while no event is sent.
    pub(crate) checkpoint: Duration,
    /// Lifetime; that of each stream differs by up to a tenth.
    pub(crate) lifetime: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            // Proxies commonly end what is silent for 60 s.
            comment: Duration::from_secs(20),
            checkpoint: Duration::from_mins(1),
            lifetime: Duration::from_mins(10),
        }
    }
}

struct State {
    follower: Follower,
    permit: UserPermit,
    timing: Timing,
    comment_at: Instant,
    checkpoint_at: Instant,
    ends_at: Instant,
    expiry: Option<TokenExpiry>,
    ended: bool,
    sent: Counter,
    _open: GaugeGuard,
}

/// Returns the steps of a stream that has begun. With an expiry, the stream ends with its client's token, which it cannot
/// renew.
pub(crate) fn steps(
    tail: &Tail,
    transport: Transport,
    follower: Follower,
    permit: UserPermit,
    timing: Timing,
    expiry: Option<TokenExpiry>,
) -> impl Stream<Item = Step> + Send + use<> {
    let now = Instant::now();
    let (open, sent) = tail.metrics.of(transport);
    let state = State {
        follower,
        permit,
        timing,
        comment_at: now + timing.comment,
        checkpoint_at: now + timing.checkpoint,
        ends_at: now + timing.lifetime.mul_f64(rand::random_range(0.9..1.1)),
        expiry,
        ended: false,
        sent,
        _open: GaugeGuard::new(&open),
    };
    // On the heap: the future that takes it and gives it back would hold it several times.
    Box::pin(stream::unfold(Box::new(state), async |mut state| {
        let step = state.next().await?;
        Some((step, state))
    }))
}

impl State {
    async fn next(&mut self) -> Option<Step> {
        if self.ended {
            return None;
        }
        let expiry_at = self.expiry.map(|expiry| expiry.due_at());
        let timer = [self.comment_at, self.checkpoint_at, self.ends_at];
        let timer = timer.into_iter().chain(expiry_at).fold(self.ends_at, Instant::min);
        // In this order, so that a stream that always has more ends, too.
        let step = tokio::select! {
            biased;
            () = self.permit.displaced() => Step::End(End::Displaced),
            () = sleep_until(timer) => self.due(timer),
            item = next_item(&mut self.follower) => Step::Item(item),
        };
        let now = Instant::now();
        self.comment_at = now + self.timing.comment;
        match &step {
            Step::Item(item) => {
                self.checkpoint_at = now + self.timing.checkpoint;
                if matches!(item, Item::Event { .. }) {
                    self.sent.increment(1);
                }
            }
            Step::Checkpoint(_) => self.checkpoint_at = now + self.timing.checkpoint,
            Step::Comment | Step::Expiring(_) => {}
            Step::End(_) => self.ended = true,
        }
        Some(step)
    }

    /// Returns what is due at the time of the timer; a comment does no harm if nothing is.
    fn due(&mut self, timer: Instant) -> Step {
        if let Some(expiry) = &mut self.expiry
            && expiry.due_at() <= timer
        {
            match expiry.due() {
                Some(Due::End) => return Step::End(End::Expired),
                Some(Due::Warning) => return Step::Expiring(expiry.timestamp()),
                None => {}
            }
        }
        match timer {
            timer if timer >= self.ends_at => Step::End(End::Aged),
            timer if timer >= self.checkpoint_at => Step::Checkpoint(self.follower.position()),
            _ => Step::Comment,
        }
    }
}

/// Waits for the next item. Without MongoDB nothing new is logged, so a stream just waits for it.
async fn next_item(follower: &mut Follower) -> Item {
    let mut backoff = Backoff::default();
    loop {
        match follower.try_next().await {
            Ok(Next::Item(item)) => return item,
            Ok(Next::Moved) => backoff = Backoff::default(),
            Ok(Next::AtEnd) => follower.woken().await,
            Err(error) => {
                tracing::debug!(%error, "an event stream waits for MongoDB");
                backoff.pause().await;
            }
        }
    }
}
