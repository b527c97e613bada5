//! Whether frames arrive. Only the leader learns why none can be sent; this is how every replica
//! notices, whatever the fault is.

use std::time::Duration;

use store::Store;
use tokio::{sync::watch, time::timeout};

use crate::fan_out::{frame::Frame, hub::Hub};

/// Minimum time without a frame that is a fault. A new leader takes 5 s at most.
const MIN_SILENCE: Duration = Duration::from_secs(10);

/// Number of intervals without a frame that is a fault, if that takes longer.
const MISSED_FRAMES: u32 = 5;

/// Watches whether frames arrive; while nothing is stored, none are expected. Must be called in a tokio
/// runtime.
pub(crate) fn start(hub: &Hub, store: &Store, tick_interval: Duration) -> watch::Receiver<bool> {
    let silence = silence(tick_interval);
    let store = store.clone();
    // Without MongoDB, nobody knows, and no frames come.
    let expected = async move || store.sample().await.map_or(true, |sample| !sample.ids.is_empty());
    let (sender, up) = watch::channel(true);
    tokio::spawn(follow(hub.newest(), silence, expected, sender));
    up
}

/// Returns the time without a frame that is a fault.
fn silence(tick_interval: Duration) -> Duration {
    MIN_SILENCE.max(tick_interval * MISSED_FRAMES)
}

/// Notes each change, until the hub is gone.
async fn follow(
    mut newest: watch::Receiver<Frame>,
    silence: Duration,
    expected: impl AsyncFn() -> bool,
    up: watch::Sender<bool>,
) {
    loop {
        let arriving = match timeout(silence, newest.changed()).await {
            Ok(Ok(())) => true,
            Ok(Err(_)) => return,
            Err(_) => !expected().await,
        };
        let changed = up.send_if_modified(|up| std::mem::replace(up, arriving) != arriving);
        if changed && arriving {
            tracing::info!("frames arrive again, or nothing is stored");
        } else if changed {
            tracing::warn!(
                silence_s = silence.as_secs(),
                "no frames arrive although messages are stored; see the log of the leader"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::time::{Instant, sleep_until};

    use super::*;

    const SILENCE: Duration = Duration::from_secs(10);

    #[test]
    fn a_fault_is_several_missed_frames_and_never_less_than_an_election_takes() {
        assert_eq!(silence(Duration::from_millis(50)), MIN_SILENCE);
        assert_eq!(silence(Duration::from_mins(1)), Duration::from_mins(5));
    }

    #[tokio::test(start_paused = true)]
    async fn frames_that_do_not_come_are_a_fault_only_while_something_is_stored() {
        static STORED: AtomicBool = AtomicBool::new(false);
        let (frames, newest) = watch::channel(Frame::default());
        let (sender, up) = watch::channel(true);
        tokio::spawn(follow(newest, SILENCE, async || STORED.load(Ordering::Relaxed), sender));
        let begun = Instant::now();
        let after = |seconds| sleep_until(begun + Duration::from_secs(seconds));
        after(25).await;
        assert!(*up.borrow(), "nothing is stored");
        STORED.store(true, Ordering::Relaxed);
        after(31).await;
        assert!(!*up.borrow());
        frames.send_replace(Frame::default());
        after(40).await;
        assert!(*up.borrow());
        after(42).await;
        assert!(!*up.borrow());
        STORED.store(false, Ordering::Relaxed);
        after(52).await;
        assert!(*up.borrow());
    }
}
