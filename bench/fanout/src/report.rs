//! The results, and how they are written.

use std::fmt;

use serde::Serialize;

use crate::{candidate::Kind, window::Delays};

/// All results of a run.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) measurements: Vec<Measurement>,
    /// The same subscribers before others stall and while they do.
    pub(crate) stalled: Option<(Measurement, Measurement)>,
}

/// What one candidate did with this many subscribers.
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
    /// In a line.
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

    /// All memory of all its processes, by subscriber.
    #[expect(clippy::cast_precision_loss, reason = "bytes of memory")]
    pub(crate) fn kib_per_subscriber(&self) -> f64 {
        self.rss_bytes as f64 / 1024.0 / self.subscribers.max(1) as f64
    }

    /// From the tick to the last subscriber, as a multiple of what the bare loop of the same run took
    /// for as many.
    fn times_the_limit(&self, run: &[Self]) -> Option<f64> {
        let is_limit =
            |it: &&Self| it.kind == Some(Kind::Bare) && it.subscribers == self.subscribers;
        let limit = run.iter().find(is_limit)?.delays.tick_to_last_ms.median;
        Some(self.delays.tick_to_last_ms.median / limit).filter(|ratio| ratio.is_finite())
    }

    fn name(&self) -> String {
        match (self.kind, self.replicas) {
            (Some(kind), 0 | 1) => kind.to_string(),
            (Some(kind), replicas) => format!("{replicas} {kind}s"),
            (None, _) => String::new(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.measurements.is_empty() {
            writeln!(
                formatter,
                "| subscribers | | frames | tick to last, ms | worst | of it the draw | first to last, ms | worst | \
                 tick to each p50 | p99 | CPU ms a frame | KiB RSS per subscriber | missed | \
                 tick to last / bare loop |\n\
                 | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
            )?;
        }
        for it in &self.measurements {
            row(formatter, &it.subscribers.to_string(), &it.name(), it)?;
            match it.times_the_limit(&self.measurements) {
                Some(ratio) => writeln!(formatter, " {ratio:.2} |")?,
                None => writeln!(formatter, " – |")?,
            }
        }
        if let Some((before, during)) = &self.stalled {
            writeln!(
                formatter,
                "\n10,000 subscribers, messages of 4,000 characters; the figures are of the 9,000 that read:\n\n\
                 | | | frames | tick to last, ms | worst | of it the draw | first to last, ms | worst | \
                 tick to each p50 | p99 | CPU ms a frame | KiB RSS per subscriber | missed |\n\
                 | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
            )?;
            row(formatter, "all read", "broadcaster", before)?;
            writeln!(formatter)?;
            row(formatter, "1,000 stall", "broadcaster", during)?;
            writeln!(formatter)?;
        }
        Ok(())
    }
}

/// The cells of a line, without its end.
fn row(
    formatter: &mut fmt::Formatter<'_>,
    head: &str,
    name: &str,
    it: &Measurement,
) -> fmt::Result {
    let delays = &it.delays;
    write!(
        formatter,
        "| {head} | {name} | {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.1} | {:.1} | {} |",
        delays.frames,
        delays.tick_to_last_ms.median,
        delays.tick_to_last_ms.worst,
        delays.tick_to_drawn_ms.median,
        delays.first_to_last_ms.median,
        delays.first_to_last_ms.worst,
        delays.tick_to_each_ms.p50,
        delays.tick_to_each_ms.p99,
        it.cpu_ms_per_frame,
        it.kib_per_subscriber(),
        delays.missed,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::Spread;

    #[test]
    fn a_delay_is_held_against_the_bare_loop_with_as_many_subscribers() {
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
