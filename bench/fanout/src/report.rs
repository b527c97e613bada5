//! Results of a run, and their tables.

use std::fmt;

use bench_common::Table;
use serde::Serialize;

use crate::{candidate::Kind, window::Delays};

/// All results of a run.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) measurements: Vec<Measurement>,
    /// The same subscribers before others stall and while they do.
    pub(crate) stalled: Option<(Measurement, Measurement)>,
}

/// Figures of one candidate with this many subscribers.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Measurement {
    pub(crate) kind: Option<Kind>,
    pub(crate) subscribers: usize,
    pub(crate) replicas: usize,
    pub(crate) delays: Delays,
    pub(crate) cpu_ms_per_frame: f64,
    /// Memory with the subscribers idle.
    pub(crate) rss_bytes: u64,
    /// Memory before the first of them.
    pub(crate) empty_rss_bytes: u64,
    /// Subscribers whose connections had ended.
    pub(crate) closed: usize,
}

impl Measurement {
    /// Returns the main figures in one line.
    pub(crate) fn summary(&self) -> String {
        let delays = &self.delays;
        format!(
            "{} frames, last socket {:.0} ms after the tick (worst {:.0}), {:.1} ms CPU a frame, \
             {:.1} KiB per subscriber, {} missed, {} closed",
            delays.frames,
            delays.tick_to_last_ms.median,
            delays.tick_to_last_ms.worst,
            self.cpu_ms_per_frame,
            self.kib_per_subscriber(),
            delays.missed,
            self.closed
        )
    }

    /// Returns the memory of all its processes, divided by the subscribers.
    #[expect(clippy::cast_precision_loss, reason = "bytes of memory")]
    pub(crate) fn kib_per_subscriber(&self) -> f64 {
        self.rss_bytes as f64 / 1024.0 / self.subscribers.max(1) as f64
    }

    /// Returns the time from the tick to the last subscriber as a multiple of the bare loop's in the same run
    /// with as many subscribers.
    fn times_the_limit(&self, run: &[Self]) -> Option<f64> {
        let is_limit =
            |it: &&Self| it.kind == Some(Kind::Bare) && it.subscribers == self.subscribers;
        let limit = run.iter().find(is_limit)?.delays.tick_to_last_ms.median;
        Some(self.delays.tick_to_last_ms.median / limit).filter(|ratio| ratio.is_finite())
    }

    /// Returns the cells of [`FIGURES`].
    fn figures(&self) -> [String; FIGURES.len()] {
        let delays = &self.delays;
        let whole = |value: f64| format!("{value:.0}");
        [
            delays.frames.to_string(),
            whole(delays.tick_to_last_ms.median),
            whole(delays.tick_to_last_ms.worst),
            whole(delays.tick_to_sampled_ms.median),
            whole(delays.first_to_last_ms.median),
            whole(delays.first_to_last_ms.worst),
            whole(delays.tick_to_each_ms.p50),
            whole(delays.tick_to_each_ms.p99),
            format!("{:.1}", self.cpu_ms_per_frame),
            format!("{:.1}", self.kib_per_subscriber()),
            delays.missed.to_string(),
        ]
    }

    fn name(&self) -> String {
        match (self.kind, self.replicas) {
            (Some(kind), 0 | 1) => kind.to_string(),
            (Some(kind), replicas) => format!("{replicas} {kind}s"),
            (None, _) => String::new(),
        }
    }
}

/// Columns of figures, after those that say what was measured.
const FIGURES: [&str; 11] = [
    "frames",
    "tick to last, ms",
    "worst",
    "of it the sample",
    "first to last, ms",
    "worst",
    "tick to each p50",
    "p99",
    "CPU ms a frame",
    "KiB RSS per subscriber",
    "missed",
];

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.measurements.is_empty() {
            let titles = ["subscribers", ""].into_iter().chain(FIGURES);
            let mut table = Table::new(2, titles.chain(["tick to last / bare loop"]));
            for it in &self.measurements {
                let ratio = it.times_the_limit(&self.measurements);
                let ratio = ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
                let what = [it.subscribers.to_string(), it.name()];
                table.row(what.into_iter().chain(it.figures()).chain([ratio]));
            }
            write!(formatter, "{table}")?;
        }
        if let Some((before, during)) = &self.stalled {
            writeln!(
                formatter,
                "\n10,000 subscribers, messages of 4,000 characters; the figures are of the 9,000 that read:\n"
            )?;
            let mut table = Table::new(1, [""].into_iter().chain(FIGURES));
            for (name, it) in [("all read", before), ("1,000 stall", during)] {
                table.row([name.to_owned()].into_iter().chain(it.figures()));
            }
            write!(formatter, "{table}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::Spread;

    #[test]
    fn a_delay_is_compared_with_the_bare_loop_of_as_many_subscribers() {
        let measured = |kind, subscribers, median| Measurement {
            kind: Some(kind),
            subscribers,
            delays: Delays {
                tick_to_last_ms: Spread { median, worst: median },
                ..Delays::default()
            },
            ..Measurement::default()
        };
        let measurements = vec![
            measured(Kind::Bare, 1_000, 10.0),
            measured(Kind::Broadcaster, 1_000, 12.0),
            measured(Kind::Bare, 5_000, 50.0),
            measured(Kind::Broadcaster, 5_000, 75.0),
            measured(Kind::Broadcaster, 50_000, 900.0),
        ];
        let table = Report { measurements, stalled: None }.to_string();
        let ratios: Vec<_> = table
            .lines()
            .skip(2)
            .filter_map(|line| line.trim_end_matches(" |").rsplit("| ").next())
            .collect();
        assert_eq!(ratios, ["1.00", "1.20", "1.00", "1.50", "–"], "{table}");
        let cells = |line: &str| line.matches('|').count();
        let width = table.lines().next().map(cells);
        assert!(table.lines().all(|line| Some(cells(line)) == width), "{table}");
    }
}
