//! Stopping: a token that is passed in, and the phases that follow from it, each a token too.
//!
//! A signal starts `draining`: the service says it is not ready, and goes on. After the drain
//! delay comes `closing`: it takes no more. Half the grace later, `soft_deadline`: what waits is
//! answered with what is known. At the end of the grace, `hard_deadline`: what is left is abandoned.

use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Says when to stop.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(CancellationToken);

/// The phases of stopping, in this order.
#[derive(Clone, Debug)]
pub struct Phases {
    /// Not ready any more, still serving.
    pub draining: CancellationToken,
    /// Takes no new work.
    pub closing: CancellationToken,
    /// Half the grace is over.
    pub soft_deadline: CancellationToken,
    /// The grace is over.
    pub hard_deadline: CancellationToken,
}

impl Shutdown {
    /// A shutdown that only [`Shutdown::request`] starts.
    #[must_use]
    pub fn manual() -> Self {
        Self::default()
    }

    /// A shutdown that SIGTERM or SIGINT starts. A second signal ends the process at once.
    pub fn on_signals() -> anyhow::Result<Self> {
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
        let shutdown = Self::default();
        let token = shutdown.0.clone();
        tokio::spawn(async move {
            for attempt in 1.. {
                let (name, number) = tokio::select! {
                    _ = terminate.recv() => ("SIGTERM", 15),
                    _ = interrupt.recv() => ("SIGINT", 2),
                };
                if attempt > 1 {
                    tracing::warn!(signal = name, "second signal, exiting at once");
                    // What a shell reports of a process that the signal ended.
                    std::process::exit(128 + number);
                }
                token.cancel();
                tracing::info!(signal = name, "stopping");
            }
        });
        Ok(shutdown)
    }

    /// Starts the shutdown.
    pub fn request(&self) {
        self.0.cancel();
    }

    /// Ends when the shutdown starts.
    pub async fn requested(&self) {
        self.0.cancelled().await;
    }

    /// The phases that this shutdown will go through.
    #[must_use]
    pub fn phases(&self, drain_delay: Duration, grace: Duration) -> Phases {
        let phases = Phases {
            draining: self.0.clone(),
            closing: CancellationToken::new(),
            soft_deadline: CancellationToken::new(),
            hard_deadline: CancellationToken::new(),
        };
        let later = phases.clone();
        tokio::spawn(async move {
            later.draining.cancelled().await;
            tokio::time::sleep(drain_delay).await;
            later.closing.cancel();
            tokio::time::sleep(grace / 2).await;
            later.soft_deadline.cancel();
            tokio::time::sleep(grace / 2).await;
            later.hard_deadline.cancel();
        });
        phases
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_phases_follow_one_another() {
        let shutdown = Shutdown::manual();
        let phases = shutdown.phases(Duration::from_secs(5), Duration::from_secs(20));
        let start = tokio::time::Instant::now();
        shutdown.request();
        assert!(phases.draining.is_cancelled());
        phases.closing.cancelled().await;
        assert_eq!(start.elapsed().as_secs(), 5);
        phases.soft_deadline.cancelled().await;
        assert_eq!(start.elapsed().as_secs(), 15);
        phases.hard_deadline.cancelled().await;
        assert_eq!(start.elapsed().as_secs(), 25);
    }
}
