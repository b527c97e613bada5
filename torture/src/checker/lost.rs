//! Plain edits that were answered 202 and whose operation has succeeded: each has made a version, or
//! a newer edit was there already. Nothing shows which of the two, but what was seen around it.

use contracts::Version;

use super::{Case, chain::Makers, conditions::is_certainly_older};
use crate::history::{Fate, Observed, Operation, Request};

pub(super) fn check(case: &mut Case<'_>, makers: &Makers<'_>) {
    let operations = &case.operations.clone();
    for operation in operations.iter().filter(|operation| is_accepted_plain_edit(operation)) {
        // Where it is not read afterwards, its message may have been deleted.
        let Some(after) = seen_after(operations, operation) else { continue };
        let before = seen_before(operations, operation);
        let explains = |version: Version| match makers.get(&version) {
            // Nobody has seen this one: it, or a newer one, may have made it.
            None => true,
            Some(maker) => is_same(maker, operation) || may_supersede(maker, operation),
        };
        if !(before + 1..=after).any(explains) {
            let detail = format!("versions {before} to {after} were made by others\n  {operation}");
            case.violated("an edit that succeeded is stored, or superseded by a newer one", detail);
        }
    }
}

fn is_accepted_plain_edit(operation: &Operation) -> bool {
    matches!(operation.request, Request::Edit { if_match: None, .. })
        && matches!(operation.outcome, Observed::Accepted { fate: Fate::Succeeded, .. })
}

/// The newest version that was there before it was asked for, as far as that was seen; what it
/// made, or was superseded by, is newer.
fn seen_before(operations: &[&Operation], operation: &Operation) -> Version {
    let before = operations.iter().filter(|it| it.ended < operation.began);
    before.filter_map(|it| Some(it.seen()?.version)).max().unwrap_or_default()
}

/// The oldest version that was seen by who asked after it had ended.
fn seen_after(operations: &[&Operation], operation: &Operation) -> Option<Version> {
    let after = operations.iter().filter(|it| it.began > operation.ended);
    after.filter_map(|it| Some(it.seen()?.version)).min()
}

fn is_same(maker: &Operation, operation: &Operation) -> bool {
    std::ptr::eq(maker, operation)
}

fn may_supersede(maker: &Operation, operation: &Operation) -> bool {
    maker.began < operation.ended && !is_certainly_older(maker, operation)
}
