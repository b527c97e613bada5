//! Reading the keys again and again: at intervals, and sooner if a token has been signed with a key that is not known.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use bytes::Bytes;
use jsonwebtoken::Algorithm;
use telemetry::{
    OutageLog,
    metrics::{
        CounterFamily, Gauge,
        catalog::{AUTH_KEY_REFRESHES, AUTH_KEYS_REFRESHED},
    },
};
use tokio::{
    sync::{Notify, Semaphore, watch},
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

/// Maximum number of requests that wait for keys at a time. More are refused at once: each takes memory, and a client can make
/// as many as it likes.
const MAX_WAITING: usize = 256;

/// Reads the keys of a source.
pub(super) struct Refresher {
    reader: Reader,
    allowed: Vec<Algorithm>,
    current: Arc<Current>,
    reads: watch::Sender<Reads>,
    trigger: Mutex<Trigger>,
    wake: Notify,
    waiting: Semaphore,
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

/// State that [`Refresher::run`] keeps from one read to the next.
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
            waiting: Semaphore::new(MAX_WAITING),
            results: AUTH_KEY_REFRESHES.family("result", &["changed", "unchanged", "failed"]),
            refreshed,
        }
    }

    /// Reads the keys for ever.
    pub(super) async fn run(&self) {
        let mut last =
            Last { success: Instant::now(), text: Bytes::new(), generation: 0, backoff: backoff() };
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
                    tracing::error!(
                        "the keys that verify tokens are too old to be used; requests with a token get 503"
                    );
                    self.current.replace(None);
                }
                last.backoff.next().unwrap_or(TRIGGER_INTERVAL).min(self.reader.interval())
            }
        }
    }

    /// Does [`super::Keys::read_again`].
    pub(super) async fn read_again(&self) -> Result<bool, Duration> {
        let _permit = self.waiting.try_acquire().map_err(|_| self.retry_after())?;
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

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use anyhow::{Context, Result};
    use jsonwebtoken::Algorithm;
    use serde_json::json;
    use testkit::TestKey;
    use tokio::{task::JoinSet, time::advance};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::keys::Keys;

    /// An issuer that answers after 1 s, and not at all without a key.
    #[derive(Clone, Default)]
    pub(crate) struct Issuer(Arc<State>);

    #[derive(Default)]
    struct State {
        id: Mutex<Option<&'static str>>,
        reads: AtomicU64,
    }

    impl Issuer {
        fn publish(&self, id: Option<&'static str>) {
            *self.0.id.lock().unwrap() = id;
        }

        fn reads(&self) -> u64 {
            self.0.reads.load(Ordering::SeqCst)
        }

        pub(crate) async fn read(&self) -> Result<Bytes> {
            self.0.reads.fetch_add(1, Ordering::SeqCst);
            let id = *self.0.id.lock().unwrap();
            sleep(Duration::from_secs(1)).await;
            let key = TestKey::new("RS256").with_id(id.context("gone")?);
            Ok(json!({ "keys": [key.jwk()] }).to_string().into())
        }

        /// Starts reading its keys, and waits for the first ones.
        async fn keys(&self) -> Keys {
            self.publish(Some("first"));
            let keys = Keys::reading(
                Reader::Test(self.clone()),
                &[Algorithm::RS256],
                Arc::new(Current::default()),
                CancellationToken::new(),
            );
            keys.up().wait_for(|up| *up).await.unwrap();
            keys
        }
    }

    fn has(keys: &Keys, id: &str) -> bool {
        keys.current().is_some_and(|set| set.candidates(Some(id)).next().is_some())
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_unknown_keys_is_one_read_that_all_of_them_share() {
        let issuer = Issuer::default();
        let keys = issuer.keys().await;
        issuer.publish(Some("second"));
        let mut flood = JoinSet::new();
        for _ in 0..MAX_WAITING {
            let keys = keys.clone();
            flood.spawn(async move {
                let result = keys.read_again().await;
                assert!(has(&keys, "second"), "whoever has waited finds the new key");
                result
            });
        }
        // All of them wait by then.
        for _ in 0..MAX_WAITING {
            tokio::task::yield_now().await;
        }
        let begun = Instant::now();
        assert!(keys.read_again().await.is_err(), "one too many");
        assert_eq!(begun.elapsed(), Duration::ZERO, "at once");
        let results = flood.join_all().await;
        assert_eq!(results.iter().filter(|result| **result == Ok(true)).count(), 1);
        assert!(results.iter().all(Result::is_ok));
        assert_eq!(issuer.reads(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_read_is_allowed_after_30_s_whatever_came_of_the_first() {
        let issuer = Issuer::default();
        let keys = issuer.keys().await;
        issuer.publish(None);
        let begun = Instant::now();
        let refused = keys.read_again().await.unwrap_err();
        assert_eq!(
            refused,
            Duration::from_secs(29),
            "the read took a second, and its failure counts"
        );
        assert_eq!(keys.read_again().await, Err(refused), "at once");
        assert_eq!(begun.elapsed(), Duration::from_secs(1));
        issuer.publish(Some("second"));
        // It is read sooner because the last read failed, but not by a token.
        sleep(refused).await;
        assert!(has(&keys, "second"));
        issuer.publish(Some("third"));
        assert_eq!(keys.read_again().await, Ok(true));
        assert!(has(&keys, "third"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_was_under_way_is_not_taken_for_a_new_one() {
        let issuer = Issuer::default();
        let keys = issuer.keys().await;
        let reads = issuer.reads();
        // The next one by interval has begun, and has the old keys.
        while issuer.reads() == reads {
            sleep(Duration::from_millis(500)).await;
        }
        issuer.publish(Some("second"));
        assert_eq!(keys.read_again().await, Ok(true));
        assert!(has(&keys, "second"));
        assert_eq!(issuer.reads(), reads + 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_keys_are_used_for_a_day() {
        let issuer = Issuer::default();
        let keys = issuer.keys().await;
        issuer.publish(None);
        sleep(Duration::from_mins(24 * 60 - 1)).await;
        assert!(has(&keys, "first") && *keys.up().borrow());
        sleep(Duration::from_mins(2)).await;
        assert!(keys.current().is_none() && !*keys.up().borrow());
        issuer.publish(Some("first"));
        keys.up().wait_for(|up| *up).await.unwrap();
        assert!(has(&keys, "first"), "the same ones as before");
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_keys_are_the_same_generation() {
        let issuer = Issuer::default();
        let keys = issuer.keys().await;
        let generation = || keys.current().unwrap().generation();
        let first = generation();
        advance(Duration::from_mins(30)).await;
        keys.read_again().await.unwrap();
        assert_eq!(generation(), first);
        issuer.publish(Some("second"));
        sleep(Duration::from_mins(10)).await;
        assert_eq!(generation(), first + 1);
    }
}
