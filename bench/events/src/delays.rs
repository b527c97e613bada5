//! Times from a write's answer to the arrivals of its event.

use std::collections::HashMap;

use serde::Serialize;

use crate::{subscribers::Arrival, writes::Answer};

/// Subscribers whom each write concerns.
const PER_WRITE: usize = 2;

/// Delays of a measurement.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Delays {
    pub(crate) from_answer: Percentiles,
    /// Time from the moment when a write was due to its answer.
    pub(crate) to_answer: Percentiles,
    /// Events that have not arrived.
    pub(crate) missing: usize,
}

/// In milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Delays {
    /// Computes them. An event that arrives before the answer has no delay.
    pub(crate) fn of(answers: &[Answer], arrivals: &[Arrival]) -> Self {
        let mut left: HashMap<_, _> =
            answers.iter().map(|answer| (answer.id, (answer.at_us, PER_WRITE))).collect();
        let mut delays = Vec::with_capacity(answers.len() * PER_WRITE);
        for arrival in arrivals {
            if let Some((answered_us, missing)) = left.get_mut(&arrival.id)
                && *missing > 0
            {
                *missing -= 1;
                delays.push(arrival.at_us.saturating_sub(*answered_us));
            }
        }
        Self {
            from_answer: Percentiles::of(delays),
            to_answer: Percentiles::of(answers.iter().map(|answer| answer.after_us).collect()),
            missing: left.values().map(|(_, missing)| missing).sum(),
        }
    }
}

impl Percentiles {
    pub(crate) fn of(mut micros: Vec<u64>) -> Self {
        micros.sort_unstable();
        let at = |percent: usize| {
            let index = micros.len().saturating_sub(1) * percent / 100;
            micros.get(index).map_or(f64::NAN, |micros| millis(*micros))
        };
        Self { p50: at(50), p99: at(99), max: at(100) }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a delay in microseconds is a small number")]
pub(crate) fn millis(micros: u64) -> f64 {
    micros as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_write_is_to_arrive_twice_and_counts_from_its_answer() {
        let answer = |id, at_us| Answer { id: [id; 36], at_us, after_us: 5_000 };
        let arrival = |id, at_us| Arrival { id: [id; 36], at_us };
        let answers = [answer(1, 10_000), answer(2, 20_000)];
        let arrivals =
            [arrival(1, 9_000), arrival(2, 23_000), arrival(1, 12_000), arrival(3, 99_000)];
        let delays = Delays::of(&answers, &arrivals);
        assert_eq!(delays.missing, 1);
        let Percentiles { p50, max, .. } = delays.from_answer;
        assert!((p50 - 2.0).abs() < 1e-9 && (max - 3.0).abs() < 1e-9, "{delays:?}");
        assert!((delays.to_answer.p99 - 5.0).abs() < 1e-9);
    }
}
