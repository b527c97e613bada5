//! Latency: a write gets its response within 2 s beyond its requested wait, whatever is down, and a read within
//! 2 s.

use std::time::Duration;

use super::{Violation, Watch};
use crate::history::{Operation, Request};

/// Time within which the broker must confirm, and MongoDB must answer a read.
const REFUSED_WITHIN: Duration = Duration::from_secs(2);

pub(super) fn check(operations: &[Operation], watch: &Watch) -> Vec<Violation> {
    let slack = watch.limits.answer_slack;
    let late = undisturbed(operations, watch).filter(|operation| overtime(operation) > slack);
    let violation = |operation: &Operation| {
        let took = operation.answered.saturating_sub(operation.began);
        let wait = operation.wait;
        let detail = format!("{took:.1?} with a wait of {wait:.1?}\n  {operation}");
        let rule = "a response comes within 2 s beyond its wait";
        Violation { rule, message: operation.message(), detail }
    };
    late.map(violation).collect()
}

/// Returns the time by which the slowest undisturbed response missed its promise.
pub(crate) fn worst_overtime(operations: &[Operation], watch: &Watch) -> Duration {
    undisturbed(operations, watch).map(overtime).max().unwrap_or_default()
}

fn undisturbed<'a>(
    operations: &'a [Operation],
    watch: &'a Watch,
) -> impl Iterator<Item = &'a Operation> {
    operations.iter().filter(|operation| {
        !watch.disturbances.iter().any(|disturbance| {
            disturbance.gateways.contains(&operation.gateway)
                && disturbance.meets(operation.began, operation.answered)
        })
    })
}

fn overtime(operation: &Operation) -> Duration {
    let promised = match operation.request {
        // Reads the message before it writes.
        Request::Edit { .. } => REFUSED_WITHIN * 2,
        _ => REFUSED_WITHIN,
    };
    let took = operation.answered.saturating_sub(operation.began);
    took.saturating_sub(operation.wait + promised)
}
