//! The worker's metrics.

use contracts::{Outcome, Timestamp};
use telemetry::metrics::{CounterFamily, Histogram, catalog};

use crate::delivery_group::ReceivedCommand;

pub(crate) struct Metrics {
    queue_latency: Histogram,
    group_commands: Histogram,
    pub(crate) apply_duration: Histogram,
    outcomes: CounterFamily,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            queue_latency: catalog::QUEUE_LATENCY.register(),
            group_commands: catalog::APPLY_GROUP_COMMANDS.register(),
            apply_duration: catalog::APPLY_DURATION.register(),
            outcomes: catalog::COMMANDS.family("outcome", &Outcome::KINDS),
        }
    }

    /// Records the commands of a delivery group that arrived now.
    pub(crate) fn record_arrival(&self, commands: &[ReceivedCommand], now: Timestamp) {
        #[expect(clippy::cast_precision_loss, reason = "no group is as large as that")]
        self.group_commands.record(commands.len() as f64);
        for received in commands {
            self.queue_latency.record(received.command.issued_at.elapsed_until(now));
        }
    }

    pub(crate) fn record_outcome(&self, outcome: &Outcome) {
        self.outcomes.count(outcome.kind());
    }
}
