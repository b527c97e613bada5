//! The report of a run.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    time::Duration,
};

use contracts::MessageId;

use crate::{
    arrivals::{Arrival, Arrived},
    checker::{Streams, Violation},
    condition::Condition,
    history::{Operation, OperationStatus, Request, Response},
    plan::Kind,
};

/// Violations that are printed in full, one of each rule.
const SHOWN: usize = 6;

/// Results of a run.
#[derive(Debug)]
pub struct Report {
    /// The seed of its plan.
    pub seed: u64,
    /// Duration of the load.
    pub lasted: Duration,
    /// All operations.
    pub operations: Vec<Operation>,
    /// Each step of faults, and its recovery.
    pub recoveries: Vec<Recovery>,
    /// Number of deliveries that were delivered again on purpose.
    pub replayed: u64,
    /// Number of documents that were rewritten in storage format 1.
    pub rewritten: u64,
    /// Arrivals at event subscribers.
    pub streams: Streams,
    /// Number of frames that subscribers received.
    pub frames: usize,
    /// Longest time between two of them without an excuse.
    pub worst_gap: Duration,
    /// Time by which the slowest response missed its promise.
    pub worst_overtime: Duration,
    /// Violations of promises.
    pub violations: Vec<Violation>,
}

/// A step of the plan, and the recovery from it.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// Time at which it struck, since the run's start.
    pub struck: Duration,
    /// Time at which it was healed.
    pub healed: Duration,
    /// The faults, with their names.
    pub faults: Vec<(Kind, String)>,
    /// Time until writes succeeded through every gateway, every service was ready, and every subscriber had a
    /// frame. `None` if that never happened.
    pub took: Option<Duration>,
    /// Limit of that time.
    pub limit: Duration,
    /// Services that were not ready at the limit.
    pub unready: Vec<String>,
}

impl Recovery {
    /// Returns true if it took longer than the limit.
    #[must_use]
    pub fn missed(&self) -> bool {
        self.took.is_none_or(|took| took > self.limit)
    }
}

impl Report {
    /// Returns true if every promise was kept.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty() && !self.recoveries.iter().any(Recovery::missed)
    }

    /// Returns one message's whole history, with the faults of that time.
    #[must_use]
    pub fn history_of(&self, message: MessageId) -> String {
        let mut operations: Vec<&Operation> = self
            .operations
            .iter()
            .filter(|operation| operation.message() == Some(message))
            .collect();
        let mut lines: Vec<(Duration, String)> =
            operations.iter().map(|it| (it.began, it.to_string())).collect();
        let is_told = |it: &&Arrival| it.event().is_some_and(|(_, told)| told.id == message);
        let arrivals = self.streams.arrivals.iter().filter(is_told);
        lines.extend(arrivals.map(|it| (it.at, it.to_string())));
        lines.sort_by_key(|(at, _)| *at);
        let mut text = format!("history of {message}:\n");
        for (_, line) in lines {
            let _ = writeln!(text, "  {line}");
        }
        operations.retain(|operation| operation.client != "final");
        let from = operations.iter().map(|it| it.began).min().unwrap_or(Duration::MAX);
        let to = operations.iter().map(|it| it.ended).max().unwrap_or_default();
        for recovery in &self.recoveries {
            if recovery.struck <= to && recovery.healed >= from {
                let _ = writeln!(
                    text,
                    "  [{:9.3} – {:9.3}] fault: {}",
                    recovery.struck.as_secs_f64(),
                    recovery.healed.as_secs_f64(),
                    names(recovery)
                );
            }
        }
        text
    }

    fn counts(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        let mut counts = BTreeMap::new();
        for operation in self.operations.iter().filter(|operation| operation.client != "final") {
            *counts
                .entry((kind_of(&operation.request), result_of(&operation.response)))
                .or_default() += 1;
        }
        counts
    }

    fn write_operations(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.counts();
        let total: u64 = counts.values().sum();
        let commands = counts.iter().filter(|((kind, _), _)| *kind != "read");
        let commands: u64 = commands.map(|(_, count)| count).sum();
        let (seed, lasted) = (self.seed, self.lasted.as_secs_f64());
        writeln!(
            f,
            "seed {seed}: {total} operations, {commands} of them writes, in {lasted:.0} s"
        )?;
        let mut last = "";
        for ((kind, result), count) in counts {
            if kind != last {
                write!(f, "{}  {kind:<12}", if last.is_empty() { "" } else { "\n" })?;
            }
            last = kind;
            write!(f, " {result} {count} ")?;
        }
        writeln!(f)
    }

    fn write_recoveries(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut kinds: BTreeMap<Kind, (u64, Duration, Duration)> = BTreeMap::new();
        for recovery in &self.recoveries {
            for (kind, _) in &recovery.faults {
                let (count, total, worst) = kinds.entry(*kind).or_default();
                let took = recovery.took.unwrap_or(Duration::MAX);
                *count += 1;
                *total = total.saturating_add(took);
                *worst = (*worst).max(took);
            }
        }
        let count: u64 = kinds.values().map(|(count, ..)| count).sum();
        writeln!(
            f,
            "{count} faults in {} steps; time until writes succeeded and frames came again",
            self.recoveries.len()
        )?;
        for (kind, (count, total, worst)) in kinds {
            let name = kind.name();
            write!(f, "  {name:<18} {count:>4} times   ")?;
            if worst == Duration::MAX {
                writeln!(f, "at least once never")?;
                continue;
            }
            let mean = total.as_secs_f64() / f64::from(u32::try_from(count).unwrap_or(u32::MAX));
            writeln!(f, "mean {mean:>5.1} s   worst {:>5.1} s", worst.as_secs_f64())?;
        }
        let worst = self.recoveries.iter().filter_map(|recovery| recovery.took).max();
        let worst = worst.unwrap_or_default().as_secs_f64();
        writeln!(f, "  worst recovery {worst:.1} s; {} deliveries replayed", self.replayed)?;
        writeln!(f, "  {} documents rewritten in storage format 1", self.rewritten)
    }

    fn write_waits(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let overtime = match self.worst_overtime {
            Duration::ZERO => "no response was later than promised".to_owned(),
            late => {
                format!("the slowest response was {:.1} s later than promised", late.as_secs_f64())
            }
        };
        let gap = self.worst_gap.as_secs_f64();
        writeln!(
            f,
            "{} frames, at most {gap:.1} s apart without disturbance; {overtime}",
            self.frames
        )
    }

    fn write_streams(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Streams { followed, arrivals, .. } = &self.streams;
        let count = |is: fn(&Arrived) -> bool| arrivals.iter().filter(|it| is(&it.what)).count();
        writeln!(
            f,
            "{} event subscribers: {} events in {} streams, {} resets",
            followed.len(),
            count(|what| matches!(what, Arrived::Event { .. })),
            count(|what| matches!(what, Arrived::Asked { .. })),
            count(|what| matches!(what, Arrived::Reset { .. })),
        )
    }

    /// Writes the first violation of each rule in full, and the numbers of all.
    fn write_violations(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut by_rule: BTreeMap<&str, Vec<&Violation>> = BTreeMap::new();
        for violation in &self.violations {
            by_rule.entry(violation.rule).or_default().push(violation);
        }
        for first in by_rule.values().filter_map(|violations| violations.first()).take(SHOWN) {
            writeln!(f, "VIOLATION: {first}")?;
            if let Some(message) = first.message {
                writeln!(f, "{}", self.history_of(message))?;
            }
        }
        for (rule, violations) in by_rule {
            writeln!(f, "{:>5} x {rule}", violations.len())?;
        }
        Ok(())
    }

    fn write_missed(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for recovery in self.recoveries.iter().filter(|recovery| recovery.missed()) {
            let took = recovery.took.map_or("never".to_owned(), |took| format!("{took:.1?}"));
            let (names, limit) = (names(recovery), recovery.limit);
            writeln!(f, "RECOVERY MISSED: {names}: {took}; the limit is {limit:?}")?;
            for service in &recovery.unready {
                writeln!(f, "    {service}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_operations(f)?;
        if !self.recoveries.is_empty() {
            self.write_recoveries(f)?;
        }
        self.write_waits(f)?;
        self.write_streams(f)?;
        self.write_missed(f)?;
        self.write_violations(f)?;
        match self.violations.len() {
            0 if self.is_clean() => write!(f, "every promise was kept"),
            0 => write!(f, "a recovery took too long"),
            count => write!(f, "{count} violations"),
        }
    }
}

fn names(recovery: &Recovery) -> String {
    let names: Vec<&str> = recovery.faults.iter().map(|(_, name)| name.as_str()).collect();
    names.join(" + ")
}

fn kind_of(request: &Request) -> &'static str {
    match request {
        Request::Create { key: None, .. } => "create",
        Request::Create { key: Some(_), .. } => "keyed create",
        Request::Edit { condition, .. } if *condition == Condition::default() => "edit",
        Request::Edit { .. } => "edit if",
        Request::Delete { condition, .. } if *condition == Condition::default() => "delete",
        Request::Delete { .. } => "delete if",
        Request::Read { .. } => "read",
    }
}

fn result_of(response: &Response) -> &'static str {
    match response {
        Response::Stored { .. } | Response::Deleted => "ok",
        Response::Accepted { status: OperationStatus::Succeeded, .. } => "202-succeeded",
        Response::Accepted { status: OperationStatus::Failed(_), .. } => "202-failed",
        Response::Accepted { .. } => "202-pending",
        Response::Failed(_) => "failed",
        Response::Refused(_) => "refused",
        Response::Unknown(_) => "unknown",
        Response::Unexpected(_) => "UNEXPECTED",
    }
}
