//! Deadlines that forgive a pause of this process.

use std::time::Duration;

use tokio::time::Instant;

/// A timeout in two halves. The second begins when the end of the first is noticed: a subscriber has
/// at least half of it, even if this process was stopped and what arrived meanwhile is still unread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TwoStageDeadline {
    until: Instant,
    second_half: Option<Duration>,
}

impl TwoStageDeadline {
    /// Starts now.
    pub(crate) fn new(timeout: Duration) -> Self {
        let half = timeout / 2;
        Self { until: Instant::now() + half, second_half: Some(timeout.saturating_sub(half)) }
    }

    /// Returns when to call [`is_over`](Self::is_over).
    pub(crate) fn until(&self) -> Instant {
        self.until
    }

    /// Returns true if it is over. Must be called at the end of each half.
    pub(crate) fn is_over(&mut self) -> bool {
        let now = Instant::now();
        if now < self.until {
            return false;
        }
        let Some(second_half) = self.second_half.take() else { return true };
        self.until = now + second_half;
        false
    }
}
