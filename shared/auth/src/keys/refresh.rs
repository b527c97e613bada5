//! Reading the keys again and again: at intervals, and sooner if a token has been signed with a key that is not known.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
    },
    time::{Duration, SystemTime},
};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use bytes::Bytes;
use jsonwebtoken::Algorithm;
use telemetry::{
    OutageLog,
    metrics::{
        CounterFamily, Gauge,
        catalog::{AUTH_KEYS_REFRESHED, AUTH_KEY_REFRESHES},
    },
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};

use super::{Current, set::KeySet, source::Reader};

/// Time for which the last keys are used while no new ones can be read.
const MAX_AGE: Duration = Duration::from_hours(24);

/// Least time between two reads that tokens with unknown keys trigger, for the whole process: otherwise a client could make
/// the service flood its issuer.
const TRIGGER_INTERVAL: Duration = Duration::from_secs(30);

/// Least time after which a client is told to try again.
pub(super) const MIN_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Maximum time for which a request waits for keys: that of a read that is under way, and of the next one.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// Reads the keys of a source.
pub(super) struct Refresher {
    reader: Reader,
    allowed: Vec<Algorithm>,
    current: Arc<Current>,
    reads: watch::Sender<Reads>,
    trigger: Mutex<Trigger>,
    wake: Notify,
    outage: OutageLog,
    results: CounterFamily,
    refreshed: Gauge,
}

/// The reads so far. They are counted from 1, and there is one at a time.
#[derive(Clone, Copy, Default)]
struct Reads {
    started: u64,
    ended: u64,
    /// Number of the last one that succeeded.
    succeeded: u64,
}

/// The last read that a token has triggered.
#[derive(Default)]
struct Trigger {
    at: Option<Instant>,
    read: u64,
}

/// What [`Refresher::run`] remembers from one read to the next.
struct Last {
    /// Time of the last success, or of the start.
    success: Instant,
    text: Bytes,
    generation: u64,
    backoff: ExponentialBackoff,
}

impl Refresher {
    pub(super) fn new(reader: Reader, allowed: Vec<Algorithm>, current: Arc<Current>) -> Self {
        let refreshed = AUTH_KEYS_REFRESHED.register();
        // As if keys had been read at the start, so that an alert about their age fires if none ever are.
        set_to_now(&refreshed);
        Self {
            outage: OutageLog::new(reader.what()),
            reader,
            allowed,
            current,
            reads: watch::Sender::default(),
            trigger: Mutex::default(),
            wake: Notify::new(),
            results: AUTH_KEY_REFRESHES.family("result", &["changed", "unchanged", "failed"]),
            refreshed,
        }
    }

    /// Reads the keys for ever.
    pub(super) async fn run(&self) {
        let mut last = Last {
            success: Instant::now(),
            text: Bytes::new(),
            generation: 0,
            backoff: backoff(),
        };
        loop {
            self.reads.send_modify(|reads| reads.started += 1);
            let result = self.refresh(&mut last).await;
            let pause = self.note(&result, &mut last);
            self.reads.send_modify(|reads| {
                reads.ended = reads.started;
                if result.is_ok() {
                    reads.succeeded = reads.started;
                }
            });
            tokio::select! {
                () = sleep(pause) => {}
                () = self.wake.notified() => {}
            }
        }
    }

    /// Reads the keys, and replaces the present ones if they are others. A set that is of no use replaces nothing. Returns
    /// true if they are others.
    async fn refresh(&self, last: &mut Last) -> anyhow::Result<bool> {
        let text = self.reader.read().await?;
        if last.generation > 0 && last.text == text && self.current.get().is_some() {
            return Ok(false);
        }
        let set = KeySet::from_jwks(&text, &self.allowed, last.generation + 1)?;
        last.generation += 1;
        last.text = text;
        self.current.replace(Some(set));
        Ok(true)
    }

    /// Notes the result of a read. Returns the pause until the next one.
    fn note(&self, result: &anyhow::Result<bool>, last: &mut Last) -> Duration {
        match result {
            Ok(is_changed) => {
                self.results.count(if *is_changed { "changed" } else { "unchanged" });
                self.outage.succeeded();
                set_to_now(&self.refreshed);
                last.success = Instant::now();
                last.backoff = backoff();
                self.reader.interval()
            }
            Err(error) => {
                self.results.count("failed");
                self.outage.failed(error.as_ref());
                if last.success.elapsed() >= MAX_AGE && self.current.get().is_some() {
                    tracing::error!("the keys that verify tokens are too old to be used; requests with a token get 503");
                    self.current.replace(None);
                }
                last.backoff.next().unwrap_or(TRIGGER_INTERVAL).min(self.reader.interval())
            }
        }
    }

    /// As [`super::Keys::read_again`].
    pub(super) async fn read_again(&self) -> Result<bool, Duration> {
        let (read, is_own) = self.trigger()?;
        let mut reads = self.reads.subscribe();
        let ended = timeout(MAX_WAIT, reads.wait_for(|reads| reads.ended >= read)).await;
        match ended {
            Ok(Ok(reads)) if reads.succeeded >= read => Ok(is_own),
            _ => Err(self.retry_after()),
        }
    }

    /// Triggers a read, or joins one that is under way or about to begin. Returns its number, and whether this call has
    /// triggered it. The attempt counts from here on, whatever comes of it.
    fn trigger(&self) -> Result<(u64, bool), Duration> {
        let mut trigger = self.trigger.lock().unwrap_or_else(PoisonError::into_inner);
        let reads = *self.reads.borrow();
        if trigger.at.is_none_or(|at| at.elapsed() >= TRIGGER_INTERVAL) {
            // Not the one under way: the issuer may have answered it before it had the key.
            *trigger = Trigger { at: Some(Instant::now()), read: reads.started + 1 };
            self.wake.notify_one();
            return Ok((trigger.read, true));
        }
        let latest = trigger.read.max(reads.started);
        if reads.ended < latest {
            return Ok((latest, false));
        }
        drop(trigger);
        Err(self.retry_after())
    }

    /// Returns the time until a token may trigger a read.
    pub(super) fn retry_after(&self) -> Duration {
        let trigger = self.trigger.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = trigger.at.map_or(TRIGGER_INTERVAL, |at| at.elapsed());
        TRIGGER_INTERVAL.saturating_sub(waited).max(MIN_RETRY_AFTER)
    }
}

/// Pauses after failures: from 1 s to 30 s, with jitter.
fn backoff() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_secs(1))
        .with_max_delay(Duration::from_secs(30))
        .without_max_times()
        .with_jitter()
        .build()
}

/// Sets a gauge to the present time.
fn set_to_now(gauge: &Gauge) {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    gauge.set(since_1970.as_secs_f64());
}
