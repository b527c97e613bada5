//! What a worker measures: how old commands are when they come, how many come at once, how long they
//! take, and what becomes of them.

use contracts::{CommandResult, Timestamp};
use measures::{Counter, Counters, Histogram, catalog};

use crate::batch::Batch;

pub(crate) struct Measures {
    queue_age: Histogram,
    batch_commands: Histogram,
    pub(crate) apply_duration: Histogram,
    outcomes: Counters,
    pub(crate) retries: Counter,
}

impl Measures {
    pub(crate) fn new() -> Self {
        Self {
            queue_age: catalog::QUEUE_AGE.register(),
            batch_commands: catalog::APPLY_BATCH_COMMANDS.register(),
            apply_duration: catalog::APPLY_DURATION.register(),
            outcomes: catalog::COMMANDS.each("outcome", &CommandResult::KINDS),
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
    pub(crate) fn ended(&self, result: &CommandResult) {
        self.outcomes.count(result.kind());
    }
}
