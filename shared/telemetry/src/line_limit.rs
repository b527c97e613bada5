//! A limit of log lines for each second: a service that refuses thousands of requests must not spend its time on saying so.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// A limit of lines for each second, which counts those that are omitted.
#[derive(Debug)]
pub struct LineLimit {
    per_second: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    second: Option<Instant>,
    lines: u32,
    omitted: u64,
}

impl LineLimit {
    /// Makes a limit of so many lines a second.
    #[must_use]
    pub const fn new(per_second: u32) -> Self {
        Self { per_second, state: Mutex::new(State { second: None, lines: 0, omitted: 0 }) }
    }

    /// Admits a line, and returns the number of lines omitted since the last one, if there are any, as a field of the line.
    /// Returns `None` if the line is to be omitted, too.
    pub fn admit(&self, now: Instant) -> Option<Option<u64>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.second.is_none_or(|second| now.duration_since(second) >= Duration::from_secs(1)) {
            (state.second, state.lines) = (Some(now), 0);
        }
        if state.lines == self.per_second {
            state.omitted += 1;
            return None;
        }
        state.lines += 1;
        let omitted = std::mem::take(&mut state.omitted);
        Some((omitted > 0).then_some(omitted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_limit_are_counted_and_the_next_second_reports_them() {
        let limit = LineLimit::new(20);
        let begun = Instant::now();
        for _ in 0..20 {
            assert_eq!(limit.admit(begun), Some(None));
        }
        assert_eq!([limit.admit(begun), limit.admit(begun)], [None; 2]);
        let next_second = begun + Duration::from_secs(1);
        assert_eq!(
            [limit.admit(next_second), limit.admit(next_second)],
            [Some(Some(2)), Some(None)]
        );
    }
}
