//! Results of a run, and their tables.

use std::{collections::BTreeMap, fmt};

use bench_common::Table;
use serde::Serialize;

use crate::{
    delays::{Delays, Percentiles},
    options::Transport,
};

/// All results of a run.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) arrivals: Vec<Arrivals>,
    pub(crate) memory: Vec<Memory>,
    pub(crate) resumptions: Vec<Resumption>,
    pub(crate) writes: Vec<Writes>,
}

/// Events of writes at a constant rate.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Arrivals {
    pub(crate) transport: Transport,
    pub(crate) subscribers: usize,
    pub(crate) asked_per_second: u32,
    pub(crate) written_per_second: f64,
    pub(crate) failed: usize,
    pub(crate) delays: Delays,
    /// Processor time of each process, in microseconds for each write.
    pub(crate) cpu_us: BTreeMap<&'static str, f64>,
    pub(crate) lost: usize,
}

/// Resident memory of the broadcaster.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Memory {
    pub(crate) transport: Transport,
    pub(crate) subscribers: usize,
    pub(crate) empty_kib: u64,
    pub(crate) idle_kib: u64,
    pub(crate) after_traffic_kib: u64,
}

/// Subscribers that resumed at once.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Resumption {
    pub(crate) transport: Transport,
    pub(crate) subscribers: usize,
    pub(crate) changes: u64,
    pub(crate) restarted: bool,
    pub(crate) median_ms: f64,
    pub(crate) last_ms: f64,
    /// Events of others that did not have to catch up, from the writes' answers on.
    pub(crate) others: Percentiles,
    pub(crate) others_missing: usize,
}

/// Writes without subscribers.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Writes {
    pub(crate) workers: usize,
    pub(crate) connections: usize,
    pub(crate) per_second: f64,
    pub(crate) failed: usize,
    pub(crate) to_answer: Percentiles,
}

impl Writes {
    /// Returns the main figures in one line.
    pub(crate) fn summary(&self) -> String {
        format!(
            "{} storage workers, {} connections: {:.0} POST/s, p50 {:.1} ms, p99 {:.1}, {} failed",
            self.workers,
            self.connections,
            self.per_second,
            self.to_answer.p50,
            self.to_answer.p99,
            self.failed
        )
    }
}

impl Arrivals {
    /// Returns the main figures in one line.
    pub(crate) fn summary(&self) -> String {
        let Delays { from_answer, missing, .. } = self.delays;
        format!(
            "{:.0}/s, answer to arrival p50 {:.1} ms, p99 {:.1}, max {:.1}; {missing} missing, {} failed, {} lost",
            self.written_per_second,
            from_answer.p50,
            from_answer.p99,
            from_answer.max,
            self.failed,
            self.lost
        )
    }
}

impl Memory {
    #[expect(clippy::cast_precision_loss, reason = "KiB of memory")]
    fn per_subscriber(&self, kib: u64) -> f64 {
        kib.saturating_sub(self.empty_kib) as f64 / self.subscribers.max(1) as f64
    }

    /// Returns the main figures in one line.
    pub(crate) fn summary(&self) -> String {
        format!(
            "{:.1} KiB for each subscriber, {:.1} after traffic",
            self.per_subscriber(self.idle_kib),
            self.per_subscriber(self.after_traffic_kib)
        )
    }
}

impl Resumption {
    /// Returns the main figures in one line.
    pub(crate) fn summary(&self) -> String {
        format!(
            "caught up after {:.0} ms (half of them {:.0}); events of others p99 {:.1} ms, {} missing",
            self.last_ms, self.median_ms, self.others.p99, self.others_missing
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.arrivals.is_empty() {
            writeln!(formatter, "{}", self.arrivals_table())?;
            writeln!(formatter, "{}", self.cpu_table())?;
            writeln!(formatter, "{}", self.memory_table())?;
        }
        if !self.resumptions.is_empty() {
            writeln!(formatter, "{}", self.resumptions_table())?;
        }
        for writes in &self.writes {
            writeln!(formatter, "{}", writes.summary())?;
        }
        Ok(())
    }
}

impl Report {
    fn arrivals_table(&self) -> Table {
        let titles = [
            "",
            "subscribers",
            "writes/s wanted",
            "achieved",
            "answer to arrival p50, ms",
            "p99",
            "max",
            "due to answer p50, ms",
            "p99",
            "missing",
            "lost",
        ];
        let mut table = Table::new(1, titles);
        for it in &self.arrivals {
            let Delays { from_answer, to_answer, missing } = it.delays;
            table.row([
                it.transport.to_string(),
                it.subscribers.to_string(),
                it.asked_per_second.to_string(),
                format!("{:.0}", it.written_per_second),
                format!("{:.1}", from_answer.p50),
                format!("{:.1}", from_answer.p99),
                format!("{:.1}", from_answer.max),
                format!("{:.1}", to_answer.p50),
                format!("{:.1}", to_answer.p99),
                missing.to_string(),
                it.lost.to_string(),
            ]);
        }
        table
    }

    fn cpu_table(&self) -> Table {
        let names = self.arrivals.first().map(|it| it.cpu_us.keys().copied());
        let names: Vec<_> = names.into_iter().flatten().collect();
        let titles = ["CPU µs for each write", "writes/s"].into_iter().chain(names.clone());
        let mut table = Table::new(1, titles);
        for it in &self.arrivals {
            let what = [it.transport.to_string(), format!("{:.0}", it.written_per_second)];
            let used =
                names.iter().map(|name| format!("{:.0}", it.cpu_us.get(name).unwrap_or(&0.0)));
            table.row(what.into_iter().chain(used));
        }
        table
    }

    fn memory_table(&self) -> Table {
        let titles =
            ["", "subscribers", "KiB RSS for each, idle", "after traffic", "KiB RSS without any"];
        let mut table = Table::new(1, titles);
        for it in &self.memory {
            table.row([
                it.transport.to_string(),
                it.subscribers.to_string(),
                format!("{:.1}", it.per_subscriber(it.idle_kib)),
                format!("{:.1}", it.per_subscriber(it.after_traffic_kib)),
                it.empty_kib.to_string(),
            ]);
        }
        table
    }

    fn resumptions_table(&self) -> Table {
        let titles = [
            "",
            "resuming",
            "changes",
            "broadcaster",
            "half caught up, ms",
            "all",
            "events of others p50, ms",
            "p99",
            "max",
            "missing",
        ];
        let mut table = Table::new(1, titles);
        for it in &self.resumptions {
            table.row([
                it.transport.to_string(),
                it.subscribers.to_string(),
                it.changes.to_string(),
                if it.restarted { "new" } else { "the same" }.to_owned(),
                format!("{:.0}", it.median_ms),
                format!("{:.0}", it.last_ms),
                format!("{:.1}", it.others.p50),
                format!("{:.1}", it.others.p99),
                format!("{:.1}", it.others.max),
                it.others_missing.to_string(),
            ]);
        }
        table
    }
}
