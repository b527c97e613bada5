//! Edits without `If-Match` and with a 202 whose operation has succeeded: each has made a version, or a newer edit superseded it.
//! Only the states around it show which.

use contracts::Version;

use super::{Case, chain::Makers, conditions::is_certainly_older};
use crate::history::{Operation, OperationStatus, Request, Response};

pub(super) fn check(case: &mut Case<'_>, makers: &Makers<'_>) {
    let operations = &case.operations.clone();
    for operation in operations.iter().filter(|operation| is_accepted_plain_edit(operation)) {
        // If it was not read afterwards, its message may have been deleted.
        let Some(after) = seen_after(operations, operation) else { continue };
        let before = seen_before(operations, operation);
        let explains = |version: Version| match makers.get(&version) {
            // No response shows this one: the edit, or a newer one, may have made it.
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
    matches!(&operation.request, Request::Edit { condition, .. } if condition.if_match.is_none())
        && matches!(
            operation.response,
            Response::Accepted { status: OperationStatus::Succeeded, .. }
        )
}

/// Returns the newest version that was seen before the request. The version that the edit made, or that superseded
/// it, is newer.
fn seen_before(operations: &[&Operation], operation: &Operation) -> Version {
    let before = operations.iter().filter(|it| it.ended < operation.began);
    before.filter_map(|it| Some(it.seen()?.version)).max().unwrap_or_default()
}

/// Returns the oldest version that was seen after its end.
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
