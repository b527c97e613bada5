//! Graceful shutdown: a token that starts it, and a token for each of its phases.
//!
//! A signal starts `draining`: the service is no longer ready, but goes on working. After the drain
//! delay comes `closing`: it accepts no new work. At half of the grace period comes `soft_deadline`:
//! waits end, with what is known by then. At its end comes `hard_deadline`: remaining work is abandoned.

use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Starts the shutdown of a service. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(CancellationToken);

/// Phases of a shutdown, in this order.
#[derive(Clone, Debug)]
pub struct Phases {
    /// The service is no longer ready, but still serves.
    pub draining: CancellationToken,
    /// The service accepts no new work.
    pub closing: CancellationToken,
    /// Half of the grace period is over.
    pub soft_deadline: CancellationToken,
    /// The grace period is over.
    pub hard_deadline: CancellationToken,
}

impl Shutdown {
    /// Returns a shutdown that only [`Shutdown::request`] starts.
    #[must_use]
    pub fn manual() -> Self {
        Self::default()
    }

    /// Returns a shutdown that SIGTERM or SIGINT starts. A second signal exits at once.
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
                    // The code that a shell reports for a process killed by the signal.
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

    /// Waits until the shutdown starts.
    pub async fn requested(&self) {
        self.0.cancelled().await;
    }

    /// Returns the phases of this shutdown.
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
    async fn the_phases_follow_in_order() {
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
