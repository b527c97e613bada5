//! One term of the leader: a frame at each tick.

use std::{convert::Infallible, mem, time::Duration};

use broker::{BrokerError, Leader};
use contracts::Message;
use store::{Sample, Store, StoreError};
use telemetry::{
    OutageLog,
    metrics::{CounterFamily, Gauge, GaugeGuard, Histogram, catalog},
};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// Number of failures in a row after which another replica may try: perhaps only this one cannot
/// reach the database.
const MAX_FAILURES: u32 = 3;

/// Maximum age of a sample. A message that is stored meanwhile cannot be in a frame before the next one.
const MAX_SAMPLE_AGE: Duration = Duration::from_secs(10);

/// The end of a term.
pub(super) enum TermEnd {
    Stopped,
    LeadershipLost(BrokerError),
    CannotSample,
}

pub(super) struct Metrics {
    leading: Gauge,
    duration: Histogram,
    samples: CounterFamily,
}

/// Publishes a frame once a tick. Samples when it needs to, and only after the sample before has ended: a slow store
/// leads to fewer frames, not to more queries.
pub(super) async fn lead(
    leader: &Leader,
    store: &Store,
    tick_interval: Duration,
    stop: &CancellationToken,
    metrics: &Metrics,
    outage: &OutageLog,
    readable: &watch::Sender<bool>,
) -> Result<Infallible, TermEnd> {
    let _leading = GaugeGuard::new(&metrics.leading);
    let mut ticks = interval(tick_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut candidates = Candidates::default();
    let mut failures = 0;
    loop {
        let tick = in_term(leader, stop, ticks.tick()).await?;
        let begun = Instant::now();
        let sample = in_term(leader, stop, candidates.choose(store)).await?;
        metrics.record(&sample, mem::take(&mut candidates.took) + begun.elapsed());
        match &sample {
            Ok(_) => {
                outage.succeeded();
            }
            Err(error) => outage.failed(error),
        }
        failures = if sample.is_ok() { 0 } else { failures + 1 };
        if let Some(message) = sample.ok().flatten() {
            let after_tick_us = u64::try_from(tick.elapsed().as_micros()).unwrap_or(u64::MAX);
            tracing::debug!(message.id = %message.id, after_tick_us, "sampled");
            if let Some(frame) = encode(&message) {
                leader.publish(&frame).await.map_err(TermEnd::LeadershipLost)?;
            }
        }
        in_term(leader, stop, leader.confirm()).await?.map_err(TermEnd::LeadershipLost)?;
        if failures >= MAX_FAILURES {
            return Err(TermEnd::CannotSample);
        }
        // The frame is out by then. If this fails, the tick samples again and logs a failure.
        in_term(leader, stop, sleep_until(tick + tick_interval / 2)).await?;
        if candidates.suffice() {
            continue;
        }
        candidates = in_term(leader, stop, Candidates::sample(store)).await?.unwrap_or_default();
        if let Some(sample) = &candidates.sample {
            readable.send_replace(!(sample.ids.is_empty() && sample.met_unreadable));
        }
    }
}

/// Waits for `work`, unless the term ends first. A query that is abandoned then does no harm.
async fn in_term<T>(
    leader: &Leader,
    stop: &CancellationToken,
    work: impl Future<Output = T>,
) -> Result<T, TermEnd> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(TermEnd::Stopped),
        error = leader.lost() => Err(TermEnd::LeadershipLost(error)),
        done = work => Ok(done),
    }
}

/// Messages for the next frames. They are sampled between two ticks: that takes the database tens of
/// milliseconds, which would delay the frame.
#[derive(Default)]
struct Candidates {
    /// Those that no frame had yet. `None` if sampling failed.
    sample: Option<Sample>,
    sampled_at: Option<Instant>,
    /// Time that sampling took; none after the first frame.
    took: Duration,
}

impl Candidates {
    async fn sample(store: &Store) -> Result<Self, StoreError> {
        let begun = Instant::now();
        let sample = store.sample().await?;
        Ok(Self { sample: Some(sample), sampled_at: Some(begun), took: begun.elapsed() })
    }

    /// Returns false if the next frame needs a new sample. One serves several frames, because it costs the database as
    /// much as hundreds of reads. Where few messages are stored it costs little, and a new message is soon in a frame.
    fn suffice(&self) -> bool {
        let is_young =
            self.sampled_at.is_some_and(|sampled_at| sampled_at.elapsed() < MAX_SAMPLE_AGE);
        is_young && self.sample.as_ref().is_some_and(|it| !it.ids.is_empty() && !it.of_few)
    }

    /// Takes the first candidate that still exists. If none does, samples again, unless there was no
    /// message half a tick ago.
    async fn choose(&mut self, store: &Store) -> Result<Option<Message>, StoreError> {
        if let Some(Sample { ids, .. }) = &mut self.sample {
            if ids.is_empty() {
                return Ok(None);
            }
            if let Some(message) = store.next_of(ids).await? {
                return Ok(Some(message));
            }
        }
        let Sample { mut ids, .. } = store.sample().await?;
        store.next_of(&mut ids).await
    }
}

impl Metrics {
    pub(super) fn new() -> Self {
        Self {
            leading: catalog::LEADER.register(),
            duration: catalog::SAMPLE_DURATION.register(),
            samples: catalog::SAMPLES.family("result", &["sampled", "empty", "failed"]),
        }
    }

    fn record(&self, sample: &Result<Option<Message>, StoreError>, took: Duration) {
        self.duration.record(took);
        self.samples.count(match sample {
            Ok(Some(_)) => "sampled",
            Ok(None) => "empty",
            Err(_) => "failed",
        });
    }
}

fn encode(message: &Message) -> Option<Vec<u8>> {
    let log = |error: &serde_json::Error| {
        tracing::error!(%error, message.id = %message.id, "bug: a message does not serialize");
    };
    serde_json::to_vec(message).inspect_err(log).ok()
}

#[cfg(test)]
mod tests {
    use contracts::MessageId;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_sample_of_many_serves_until_it_is_old_or_used_up() {
        let candidates = |count: usize, of_few| {
            let ids = (0..count).map(|_| MessageId::generate()).collect();
            let sample = Some(Sample { ids, of_few, ..Sample::default() });
            Candidates { sample, sampled_at: Some(Instant::now()), took: Duration::ZERO }
        };
        let many = candidates(2, false);
        assert!(many.suffice());
        assert!(!candidates(2, true).suffice(), "a new message would not be in it");
        assert!(!candidates(0, false).suffice());
        assert!(!Candidates::default().suffice());
        tokio::time::advance(MAX_SAMPLE_AGE).await;
        assert!(!many.suffice());
    }
}
