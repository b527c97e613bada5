//! Ctrl-C, `SIGTERM` and a closed terminal: the first stops, the second kills.

use anyhow::Result;
use testkit::{Progress, Steps};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The user's wish to stop.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    /// Cancelled by the first signal: stop in order.
    pub(crate) stop: CancellationToken,
    /// Cancelled by the second: kill.
    pub(crate) kill: CancellationToken,
}

impl Interrupt {
    /// Catches the signals from now on.
    pub(crate) fn watch(steps: Steps) -> Result<Self> {
        let this = Self { stop: CancellationToken::new(), kill: CancellationToken::new() };
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let Self { stop, kill } = this.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                if stop.is_cancelled() {
                    steps.say("killing everything");
                    kill.cancel();
                } else {
                    steps.say("stopping (Ctrl-C again: at once)");
                    stop.cancel();
                }
            }
        });
        Ok(this)
    }
}
