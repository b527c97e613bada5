//! Backoff: the growing pause between retries.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::sleep;

const MAX_PAUSE: Duration = Duration::from_secs(2);

/// Pauses between retries: from 100 ms to 2 s, with jitter, without end.
#[derive(Debug)]
pub struct Backoff(ExponentialBackoff);

impl Default for Backoff {
    fn default() -> Self {
        let builder = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(MAX_PAUSE)
            .without_max_times()
            .with_jitter();
        Self(builder.build())
    }
}

impl Backoff {
    /// Waits, and for longer the next time.
    pub async fn pause(&mut self) {
        sleep(self.0.next().unwrap_or(MAX_PAUSE)).await;
    }
}
