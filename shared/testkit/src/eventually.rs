//! Waiting for a condition instead of sleeping.

#![expect(clippy::panic, reason = "an assertion: a test that waited in vain fails here")]

use std::{
    fmt::Debug,
    panic::Location,
    time::{Duration, Instant},
};

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(25);

/// Result of one look at the system: `Option` or `bool`, or `Result` where the error of a failed look says what
/// was seen.
pub trait Check {
    /// Value that ends the wait.
    type Value;

    /// The value, or a description of what was seen instead.
    fn settle(self) -> Result<Self::Value, Option<String>>;
}

impl<T> Check for Option<T> {
    type Value = T;

    fn settle(self) -> Result<T, Option<String>> {
        self.ok_or(None)
    }
}

impl Check for bool {
    type Value = ();

    fn settle(self) -> Result<(), Option<String>> {
        self.then_some(()).ok_or(None)
    }
}

impl<T, E: Debug> Check for Result<T, E> {
    type Value = T;

    fn settle(self) -> Result<T, Option<String>> {
        self.map_err(|error| Some(format!("{error:?}")))
    }
}

/// Looks every 25 ms until `check` succeeds and returns what it found.
///
/// # Panics
///
/// After `within`, with `what` and, where `check` answers a `Result`, the last error. A look that
/// hangs counts as failed.
#[track_caller]
pub fn eventually<C: Check>(
    what: &str,
    within: Duration,
    mut check: impl AsyncFnMut() -> C,
) -> impl Future<Output = C::Value> {
    let caller = Location::caller();
    async move {
        let deadline = Instant::now() + within;
        let mut last_seen = None;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, check()).await.map(Check::settle) {
                Ok(Ok(value)) => return value,
                Ok(Err(seen)) => last_seen = seen,
                Err(_) if last_seen.is_none() => {
                    last_seen = Some("a look that never ended".to_owned());
                }
                Err(_) => {}
            }
            if Instant::now() + PAUSE >= deadline {
                let seen = last_seen.map(|seen| format!("; last seen: {seen}")).unwrap_or_default();
                panic!("{what}: not within {within:?}{seen} (waited at {caller})");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_returns_what_a_later_look_finds() {
        let mut looks = 0;
        let found = eventually("a third look", Duration::from_secs(5), async || {
            looks += 1;
            (looks == 3).then_some(looks)
        })
        .await;
        assert_eq!(found, 3);
    }

    #[tokio::test]
    #[should_panic(expected = "the tide: not within 100ms; last seen: \"low\"")]
    async fn it_panics_with_what_it_saw_last() {
        eventually("the tide", Duration::from_millis(100), async || Err::<(), _>("low")).await;
    }

    #[tokio::test]
    #[should_panic(expected = "a look that never ended")]
    async fn a_look_that_hangs_is_cut_short() {
        eventually("an answer", Duration::from_millis(100), async || {
            std::future::pending::<Option<()>>().await
        })
        .await;
    }
}
