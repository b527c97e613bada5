//! Retries of operations on MongoDB: without end, so that an outage dead-letters nothing.

use broker::Backoff;
use service::Phases;
use store::StoreError;
use telemetry::{
    error_chain,
    metrics::{Counter, catalog},
};
use tokio::sync::watch;

/// The end of a worker that stops before it is done with its delivery group. The group stays with the
/// broker, which delivers it again.
pub(crate) struct Abandoned;

/// Retries operations until MongoDB has done them, or the worker stops.
pub(crate) struct Retry {
    phases: Phases,
    /// Result of the last operation; false while commands are held.
    progress: watch::Sender<bool>,
    retries: Counter,
}

impl Retry {
    pub(crate) fn new(phases: Phases) -> Self {
        let progress = watch::Sender::new(true);
        Self { phases, progress, retries: catalog::STORE_RETRIES.register() }
    }

    /// Returns whether the last operation succeeded. MongoDB may answer a ping and still take no
    /// writes.
    pub(crate) fn progress(&self) -> watch::Receiver<bool> {
        self.progress.subscribe()
    }

    /// Waits until an operation fails.
    pub(crate) async fn failed(&self) {
        // The sender lives as long as this.
        let _ = self.progress().wait_for(|progress| !progress).await;
    }

    /// Runs the operation until it succeeds. It gets the number of failed tries before. A worker that
    /// stops does not wait for another try, only for the running one.
    pub(crate) async fn until_done<T>(
        &self,
        failure: &'static str,
        operation: impl AsyncFn(usize) -> Result<T, StoreError>,
    ) -> Result<T, Abandoned> {
        let mut backoff = Backoff::default();
        for failures in 0.. {
            let result = tokio::select! {
                result = operation(failures) => result,
                () = self.phases.hard_deadline.cancelled() => return Err(Abandoned),
            };
            match result {
                Ok(done) => {
                    self.progress.send_if_modified(|progress| !std::mem::replace(progress, true));
                    return Ok(done);
                }
                Err(error) => {
                    self.progress.send_replace(false);
                    self.retries.increment(1);
                    tracing::warn!(error = %error_chain(&error), "{failure}; retrying");
                }
            }
            tokio::select! {
                () = backoff.pause() => {}
                () = self.phases.draining.cancelled() => return Err(Abandoned),
            }
        }
        Err(Abandoned)
    }
}
