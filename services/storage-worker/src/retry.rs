//! Retries of operations on MongoDB: without end, so that an outage dead-letters nothing.

use broker::Backoff;
use service::Phases;
use store::StoreError;
use telemetry::{
    OutageLog,
    metrics::{Counter, catalog},
};
use tokio::sync::watch;

/// Error of a worker that stops before its delivery group is done. The broker delivers it again.
pub(crate) struct Abandoned;

/// Retries operations until MongoDB has done them, or the worker stops.
pub(crate) struct Retry {
    phases: Phases,
    /// Set while the last operation succeeded.
    progress: watch::Sender<bool>,
    retries: Counter,
    outage: OutageLog,
}

impl Retry {
    /// Makes retries of one purpose, which the log names.
    pub(crate) fn new(phases: Phases, purpose: &'static str) -> Self {
        let progress = watch::Sender::new(true);
        Self {
            phases,
            progress,
            retries: catalog::STORE_RETRIES.register(),
            outage: OutageLog::new(purpose),
        }
    }

    /// Watches whether the last operation succeeded. MongoDB may respond to a ping and still take no
    /// writes.
    pub(crate) fn progress(&self) -> watch::Receiver<bool> {
        self.progress.subscribe()
    }

    /// Waits until an operation fails.
    pub(crate) async fn failed(&self) {
        // The sender lives as long as this.
        let _ = self.progress().wait_for(|progress| !progress).await;
    }

    /// Runs the operation until it succeeds, and tells it whether it has failed before. A worker that
    /// stops does not wait for another try, only for the running one.
    pub(crate) async fn until_done<T>(
        &self,
        failure: &'static str,
        mut operation: impl AsyncFnMut(bool) -> Result<T, StoreError>,
    ) -> Result<T, Abandoned> {
        let mut backoff = Backoff::default();
        let mut after_failure = false;
        loop {
            let result = tokio::select! {
                result = operation(after_failure) => result,
                () = self.phases.hard_deadline.cancelled() => return Err(Abandoned),
            };
            let error = match result {
                Ok(done) => {
                    self.outage.succeeded();
                    self.progress.send_if_modified(|progress| !std::mem::replace(progress, true));
                    return Ok(done);
                }
                Err(error) => error,
            };
            after_failure = true;
            self.progress.send_replace(false);
            self.retries.increment(1);
            self.outage.failed(anyhow::Error::from(error).context(failure).as_ref());
            tokio::select! {
                () = backoff.pause() => {}
                () = self.phases.draining.cancelled() => return Err(Abandoned),
            }
        }
    }
}
