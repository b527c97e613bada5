//! No answer hangs: a write is answered within 2 s beyond the wait that it asked for, whatever is
//! away, and a read within 2 s.

use std::time::Duration;

use super::{Violation, Watch};
use crate::history::{Operation, Request};

/// How long the broker may take to confirm, and MongoDB to be read.
const REFUSED_WITHIN: Duration = Duration::from_secs(2);

pub(super) fn check(operations: &[Operation], watch: &Watch) -> Vec<Violation> {
    let slack = watch.limits.answer_slack;
    let late = undisturbed(operations, watch).filter(|operation| overtime(operation) > slack);
    let violation = |operation: &Operation| {
        let took = operation.answered.saturating_sub(operation.began);
        let wait = operation.wait;
        let detail = format!("{took:.1?} with a wait of {wait:.1?}\n  {operation}");
        let rule = "an answer comes within 2 s, beyond its wait";
        Violation { rule, message: operation.message(), detail }
    };
    late.map(violation).collect()
}

/// How much longer than promised the slowest answer took that nothing held up on its way.
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
