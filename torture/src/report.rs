//! What a run did, and what it found.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    time::Duration,
};

use contracts::MessageId;

use crate::{
    checker::Violation,
    history::{Fate, Observed, Operation, Request},
    plan::Kind,
};

/// Violations that are printed in full, one of each rule.
const SHOWN: usize = 6;

/// What became of a run.
#[derive(Debug)]
pub struct Report {
    /// The seed of its plan.
    pub seed: u64,
    /// How long the load went on.
    pub lasted: Duration,
    /// Everything that was asked and told.
    pub operations: Vec<Operation>,
    /// Each fault that struck, and when all was well again.
    pub recoveries: Vec<Recovery>,
    /// How many deliveries were delivered again on purpose.
    pub replayed: u64,
    /// How many frames subscribers were sent.
    pub frames: usize,
    /// The longest time between two of them that nothing excuses.
    pub worst_gap: Duration,
    /// How much longer than promised the slowest answer took.
    pub worst_overtime: Duration,
    /// Promises that were not kept.
    pub violations: Vec<Violation>,
}

/// How a step of the plan ended.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// When it struck and when it was healed, since the run's start.
    pub struck: Duration,
    /// When it was healed.
    pub healed: Duration,
    /// What struck.
    pub faults: Vec<(Kind, String)>,
    /// How long it took until writes succeeded through every gateway, every service was ready, and
    /// every subscriber had a frame. `None` where that never was.
    pub took: Option<Duration>,
    /// How long they may have taken.
    pub limit: Duration,
    /// Which services were not ready when the limit had passed.
    pub unready: Vec<String>,
}

impl Recovery {
    /// Whether it took longer than it may.
    #[must_use]
    pub fn missed(&self) -> bool {
        self.took.is_none_or(|took| took > self.limit)
    }
}

impl Report {
    /// Whether every promise was kept.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty() && !self.recoveries.iter().any(Recovery::missed)
    }

    /// One message's whole history, with the faults of that time.
    #[must_use]
    pub fn history_of(&self, message: MessageId) -> String {
        let mut operations: Vec<&Operation> = self
            .operations
            .iter()
            .filter(|operation| operation.message() == Some(message))
            .collect();
        operations.sort_by_key(|operation| operation.began);
        let mut text = format!("history of {message}:\n");
        let (mut from, mut to) = (Duration::MAX, Duration::ZERO);
        for operation in operations {
            if operation.client != "final" {
                (from, to) = (from.min(operation.began), to.max(operation.ended));
            }
            let _ = writeln!(text, "  {operation}");
        }
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
            *counts.entry((asked(&operation.request), told(&operation.outcome))).or_default() += 1;
        }
        counts
    }

    fn write_operations(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.counts();
        let total: u64 = counts.values().sum();
        let commands = counts.iter().filter(|((asked, _), _)| *asked != "read");
        let commands: u64 = commands.map(|(_, count)| count).sum();
        let (seed, lasted) = (self.seed, self.lasted.as_secs_f64());
        writeln!(
            f,
            "seed {seed}: {total} operations, {commands} of them writes, in {lasted:.0} s"
        )?;
        let mut last = "";
        for ((asked, told), count) in counts {
            if asked != last {
                write!(f, "{}  {asked:<12}", if last.is_empty() { "" } else { "\n" })?;
            }
            last = asked;
            write!(f, " {told} {count} ")?;
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
            "{count} faults in {} steps; writes succeeded and frames came again after",
            self.recoveries.len()
        )?;
        for (kind, (count, total, worst)) in kinds {
            let name = kind.name();
            write!(f, "  {name:<18} {count:>4} times   ")?;
            if worst == Duration::MAX {
                writeln!(f, "once never")?;
                continue;
            }
            let mean = total.as_secs_f64() / f64::from(u32::try_from(count).unwrap_or(u32::MAX));
            writeln!(f, "mean {mean:>5.1} s   worst {:>5.1} s", worst.as_secs_f64())?;
        }
        let worst = self.recoveries.iter().filter_map(|recovery| recovery.took).max();
        let worst = worst.unwrap_or_default().as_secs_f64();
        writeln!(f, "  worst recovery {worst:.1} s; {} deliveries replayed", self.replayed)
    }

    fn write_waits(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let overtime = match self.worst_overtime {
            Duration::ZERO => "no answer later than promised".to_owned(),
            late => format!("the slowest answer {:.1} s later than promised", late.as_secs_f64()),
        };
        let gap = self.worst_gap.as_secs_f64();
        writeln!(
            f,
            "{} frames, at most {gap:.1} s apart while undisturbed; {overtime}",
            self.frames
        )
    }

    /// Of each rule the first violation in full, and how many there are.
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
            writeln!(f, "RECOVERY MISSED: {names}: {took}, and {limit:?} is the limit")?;
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

fn asked(request: &Request) -> &'static str {
    match request {
        Request::Create { key: None, .. } => "create",
        Request::Create { key: Some(_), .. } => "keyed create",
        Request::Edit { if_match: None, .. } => "edit",
        Request::Edit { .. } => "edit if",
        Request::Delete { if_match: None, .. } => "delete",
        Request::Delete { .. } => "delete if",
        Request::Read { .. } => "read",
    }
}

fn told(outcome: &Observed) -> &'static str {
    match outcome {
        Observed::Stored { .. } | Observed::Deleted => "ok",
        Observed::Accepted { fate: Fate::Succeeded, .. } => "202-succeeded",
        Observed::Accepted { fate: Fate::Failed(_), .. } => "202-failed",
        Observed::Accepted { .. } => "202-open",
        Observed::Failed(_) => "failed",
        Observed::Refused(_) => "refused",
        Observed::Unknown(_) => "unknown",
        Observed::Odd(_) => "ODD",
    }
}
