//! What a worker measures: how old commands are when they come, how many come at once, how long they
//! take, and what becomes of them.

use contracts::{Outcome, Timestamp};
use telemetry::metrics::{Counter, CounterFamily, Histogram, catalog};

use crate::batch::Batch;

pub(crate) struct Metrics {
    queue_age: Histogram,
    batch_commands: Histogram,
    pub(crate) apply_duration: Histogram,
    outcomes: CounterFamily,
    pub(crate) retries: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            queue_age: catalog::QUEUE_LATENCY.register(),
            batch_commands: catalog::APPLY_GROUP_COMMANDS.register(),
            apply_duration: catalog::APPLY_DURATION.register(),
            outcomes: catalog::COMMANDS.family("outcome", &Outcome::KINDS),
            retries: catalog::STORE_RETRIES.register(),
        }
    }

    /// Notes what has arrived.
    pub(crate) fn arrived(&self, batch: &Batch, now: Timestamp) {
        #[expect(clippy::cast_precision_loss, reason = "no group is as large as that")]
        self.batch_commands.record(batch.commands.len() as f64);
        for received in &batch.commands {
            self.queue_age.record(received.command.issued_at.elapsed_until(now));
        }
    }

    /// Notes what became of a command.
    pub(crate) fn ended(&self, result: &Outcome) {
        self.outcomes.count(result.kind());
    }
}
