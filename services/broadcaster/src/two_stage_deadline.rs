//! How long a subscriber may take for something.

use std::time::Duration;

use tokio::time::Instant;

/// A time limit in two halves. The second begins when the end of the first is noticed: whoever has
/// it has half of it at least, even if this process was stopped, or its machine, and what arrived
/// meanwhile is still unread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TwoStageDeadline {
    until: Instant,
    second_half: Option<Duration>,
}

impl TwoStageDeadline {
    /// One that begins now.
    pub(crate) fn new(length: Duration) -> Self {
        let half = length / 2;
        Self { until: Instant::now() + half, second_half: Some(length.saturating_sub(half)) }
    }

    /// When to ask whether it is over.
    pub(crate) fn until(&self) -> Instant {
        self.until
    }

    /// Whether it is over. Has to be asked at the end of each half.
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
