//! Figures of one window of time, from its ticks and arrivals.

use std::collections::HashMap;

use serde::Serialize;

use crate::{candidate::Tick, load::Report};

/// The figures of all frames whose tick was in the window.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Delays {
    /// Number of frames.
    pub(crate) frames: usize,
    /// Subscribers that missed one, summed over the frames.
    pub(crate) missed: usize,
    /// Time from the tick to the last subscriber, in milliseconds: the median and the worst frame.
    pub(crate) tick_to_last_ms: Spread,
    /// Time from the tick until the database had answered, which is part of the former.
    pub(crate) tick_to_sampled_ms: Spread,
    /// Time from the first subscriber to the last.
    pub(crate) first_to_last_ms: Spread,
    /// Time from the tick to each subscriber, over all frames: the median and the 99th percentile.
    pub(crate) tick_to_each_ms: Percentiles,
}

/// The median and the worst.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) worst: f64,
}

/// The median and the 99th percentile.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// Computes the delays of the frames whose ticks were from `from_us` to `to_us`, each of which `expected`
/// subscribers should have had.
pub(crate) fn delays(
    reports: Vec<Report>,
    ticks: &[Tick],
    (from_us, to_us): (u64, u64),
    expected: usize,
) -> Delays {
    // A message can be sampled twice in one window: its arrivals belong to the latest tick before them.
    let mut arrivals: HashMap<String, Vec<u64>> = HashMap::new();
    for frame in reports.into_iter().flat_map(|report| report.frames) {
        arrivals.entry(frame.id).or_default().extend(frame.at_us);
    }
    let mut delays = Delays::default();
    let (mut to_last, mut samples, mut spans, mut each) = (vec![], vec![], vec![], vec![]);
    for tick in ticks.iter().filter(|tick| (from_us..to_us).contains(&tick.at_us)) {
        let again = ticks.iter().filter(|it| it.id == tick.id && it.at_us > tick.at_us);
        let until_us = again.map(|it| it.at_us).min().unwrap_or(u64::MAX);
        let mut at_us = arrivals.get(&tick.id).cloned().unwrap_or_default();
        at_us.retain(|at_us| (tick.at_us..until_us).contains(at_us));
        delays.frames += 1;
        samples.push(millis(tick.sampled_us.saturating_sub(tick.at_us)));
        delays.missed += expected.saturating_sub(at_us.len());
        if let (Some(first), Some(last)) = (at_us.iter().min(), at_us.iter().max()) {
            to_last.push(millis(last - tick.at_us));
            spans.push(millis(last - first));
        }
        each.extend(at_us.iter().map(|at_us| millis(at_us - tick.at_us)));
    }
    delays.tick_to_last_ms = spread(to_last);
    delays.tick_to_sampled_ms = spread(samples);
    delays.first_to_last_ms = spread(spans);
    each.sort_by(f64::total_cmp);
    delays.tick_to_each_ms = Percentiles { p50: quantile(&each, 0.5), p99: quantile(&each, 0.99) };
    delays
}

#[expect(clippy::cast_precision_loss, reason = "a delay in microseconds is a small number")]
fn millis(micros: u64) -> f64 {
    micros as f64 / 1_000.0
}

fn spread(mut values: Vec<f64>) -> Spread {
    values.sort_by(f64::total_cmp);
    Spread { median: quantile(&values, 0.5), worst: values.last().copied().unwrap_or(f64::NAN) }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an index into a list"
)]
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let index = (sorted.len().saturating_sub(1)) as f64 * share;
    sorted.get(index.round() as usize).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Arrivals;

    #[test]
    fn a_frame_counts_from_its_tick_to_its_last_arrival() {
        let frame = |id: &str, at_us: &[u64]| Arrivals { id: id.to_owned(), at_us: at_us.to_vec() };
        let report = |frames| Report { frames, closed: HashMap::new() };
        let reports = vec![
            report(vec![frame("a", &[1_100, 1_300]), frame("b", &[5_000])]),
            report(vec![frame("a", &[1_200, 9_400]), frame("c", &[99_000])]),
        ];
        let tick = |id: &str, at_us| Tick { id: id.to_owned(), at_us, sampled_us: at_us };
        let ticks = [tick("a", 1_000), tick("b", 4_000), tick("a", 9_000), tick("late", 20_000)];
        let delays = delays(reports, &ticks, (1_000, 10_000), 3);
        assert_eq!((delays.frames, delays.missed), (3, 2 + 2));
        assert!((delays.tick_to_last_ms.worst - 1.0).abs() < 1e-9, "{delays:?}");
        assert!((delays.tick_to_last_ms.median - 0.4).abs() < 1e-9, "{delays:?}");
        assert!((delays.first_to_last_ms.worst - 0.2).abs() < 1e-9, "{delays:?}");
    }
}
