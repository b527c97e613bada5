//! Logs an outage without repeating it at each retry: when it begins, each minute while it lasts, and
//! when it ends.

use std::{
    error::Error,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::error_chain;

/// Interval at which an outage is logged again.
const REPEAT_INTERVAL: Duration = Duration::from_mins(1);

/// Time without a failure after which the next one is a new outage. One that comes earlier continues
/// the outage before, so that something that fails and recovers all the time logs little.
const CALM: Duration = Duration::from_secs(10);

/// The log of one thing that may fail and is tried again. All tasks that try it may share one.
#[derive(Debug)]
pub struct OutageLog {
    what: &'static str,
    last: Mutex<Option<Outage>>,
}

#[derive(Debug)]
struct Outage {
    began: Instant,
    ended: Option<Instant>,
    failures: u64,
    /// Time of the last line about a failure.
    logged: Instant,
    /// True while that line is the last one.
    shows: bool,
}

impl OutageLog {
    /// Makes the log of what may fail, such as "consume commands".
    #[must_use]
    pub const fn new(what: &'static str) -> Self {
        Self { what, last: Mutex::new(None) }
    }

    /// Notes a failure, and that it will be tried again.
    pub fn failed(&self, error: &(dyn Error + 'static)) {
        let now = Instant::now();
        let mut last = self.last();
        let Some(outage) = last.as_mut().filter(|outage| outage.continues(now)) else {
            *last = Some(Outage { began: now, ended: None, failures: 1, logged: now, shows: true });
            tracing::warn!(error = %error_chain(error), "cannot {}; retrying", self.what);
            return;
        };
        outage.ended = None;
        outage.failures += 1;
        if now - outage.logged >= REPEAT_INTERVAL {
            outage.logged = now;
            outage.shows = true;
            let (failures, outage_s) = (outage.failures, (now - outage.began).as_secs());
            let error = error_chain(error);
            tracing::warn!(%error, failures, outage_s, "still cannot {}; retrying", self.what);
        }
    }

    /// Notes a success. Returns true if it ends an outage.
    pub fn succeeded(&self) -> bool {
        let mut last = self.last();
        let Some(outage) = last.as_mut().filter(|outage| outage.ended.is_none()) else {
            return false;
        };
        let now = Instant::now();
        outage.ended = Some(now);
        if std::mem::take(&mut outage.shows) {
            let (failures, outage_s) = (outage.failures, (now - outage.began).as_secs());
            tracing::info!(failures, outage_s, "can {} again", self.what);
        }
        true
    }

    /// Returns true between a failure and the next success.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.last().as_ref().is_some_and(|outage| outage.ended.is_none())
    }

    fn last(&self) -> MutexGuard<'_, Option<Outage>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outage {
    /// Returns true if a failure belongs to this outage.
    fn continues(&self, now: Instant) -> bool {
        self.ended.is_none_or(|ended| now - ended < CALM)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::Arc,
    };

    use tokio::time::advance;
    use tracing::subscriber::DefaultGuard;
    use tracing_subscriber::fmt;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn capture() -> (Self, DefaultGuard) {
            let lines = Self::default();
            let written = lines.clone();
            let subscriber = fmt()
                .with_writer(move || written.clone())
                .without_time()
                .with_target(false)
                .with_ansi(false)
                .finish();
            (lines, tracing::subscriber::set_default(subscriber))
        }

        /// Returns the lines since the last call.
        fn take(&self) -> Vec<String> {
            let bytes = std::mem::take(&mut *self.0.lock().unwrap());
            String::from_utf8(bytes).unwrap().lines().map(|line| line.trim().to_owned()).collect()
        }
    }

    /// Fails for so long, each second.
    async fn fail(log: &OutageLog, seconds: u32) {
        for _ in 0..seconds {
            log.failed(&io::Error::other("refused"));
            advance(Duration::from_secs(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_logged_when_it_begins_each_minute_and_when_it_ends() {
        let (lines, _guard) = Lines::capture();
        let log = OutageLog::new("consume commands");
        assert!(!log.succeeded(), "there was no outage");
        fail(&log, 60).await;
        assert_eq!(lines.take(), ["WARN cannot consume commands; retrying error=refused"]);
        fail(&log, 100).await;
        assert_eq!(
            lines.take(),
            [
                "WARN still cannot consume commands; retrying error=refused failures=61 outage_s=60",
                "WARN still cannot consume commands; retrying error=refused failures=121 outage_s=120"
            ]
        );
        assert!(log.is_failing());
        assert!(log.succeeded());
        assert!(!log.succeeded());
        assert!(!log.is_failing());
        assert_eq!(lines.take(), ["INFO can consume commands again failures=160 outage_s=160"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_and_recovers_all_the_time_logs_two_lines_a_minute() {
        let (lines, _guard) = Lines::capture();
        let log = OutageLog::new("consume commands");
        for _ in 0..180 {
            fail(&log, 1).await;
            log.succeeded();
        }
        let logged = lines.take();
        assert_eq!(logged.len(), 6, "{logged:?}");
        // A later outage is another one.
        advance(CALM).await;
        fail(&log, 1).await;
        assert_eq!(lines.take(), ["WARN cannot consume commands; retrying error=refused"]);
    }
}
