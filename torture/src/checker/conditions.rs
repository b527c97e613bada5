//! Responses that say why a write changed nothing: 412, and superseded edits.

use super::Case;
use crate::{
    condition::Condition,
    history::{Failure, Operation, OperationStatus, Request, Response},
};

pub(super) fn check(case: &mut Case<'_>) {
    let operations = case.operations.clone();
    for operation in &operations {
        if operation.failure() == Some(Failure::VersionMismatch)
            && let Request::Edit { condition, .. } | Request::Delete { condition, .. } =
                &operation.request
        {
            mismatch(case, &operations, operation, condition);
        }
        if let (Response::Stored { state, .. }, Request::Edit { content, condition, .. }) =
            (&operation.response, &operation.request)
            && state.message.content.as_str() != content
        {
            match condition.if_match.as_ref().and(condition.earliest()) {
                // A redelivery, after which another write came.
                Some(earliest) if state.version > earliest + 1 => {}
                Some(_) => {
                    let detail = operation.to_string();
                    case.violated("a conditional edit is answered with its state or newer", detail);
                }
                None => superseded(case, &operations, operation, state.message.content.as_str()),
            }
        }
    }
}

/// Checks a 412: it is wrong if the condition allows all versions that the message can have had meanwhile.
fn mismatch(
    case: &mut Case<'_>,
    operations: &[&Operation],
    operation: &Operation,
    condition: &Condition,
) {
    let seen = |it: &&&Operation| it.seen().map(|seen| seen.version);
    let before = operations.iter().filter(|it| it.ended < operation.began).max_by_key(seen);
    let after = operations.iter().filter(|it| it.began > operation.ended && seen(it).is_some());
    let (Some(before), Some(after)) = (before, after.min_by_key(seen)) else { return };
    let (Some(from), Some(to)) = (seen(&before), seen(&after)) else { return };
    if from <= to && (from..=to).all(|version| condition.allows(version)) {
        let detail = format!("between\n  {before}\n  and\n  {after}\n  came\n  {operation}");
        case.violated("412 only where the condition does not allow the version", detail);
    }
}

/// Checks a superseded edit. A plain edit is newer than the stored state when it is accepted, so a write that
/// supersedes it was stored afterwards.
fn superseded(
    case: &mut Case<'_>,
    operations: &[&Operation],
    operation: &Operation,
    by_content: &str,
) {
    let by = operations.iter().find(|it| match &it.request {
        Request::Edit { content, .. } | Request::Create { content, .. } => content == by_content,
        Request::Delete { .. } | Request::Read { .. } => false,
    });
    // The chain finds a state that no client wrote.
    let Some(by) = by else { return };
    if is_certainly_older(by, operation) {
        let detail = format!("\n  {operation}\n  was superseded by the older\n  {by}");
        case.violated("a write is superseded by a newer one only", detail);
    }
}

/// Returns true if a write had made its version before this plain edit was requested.
pub(super) fn is_certainly_older(maker: &Operation, operation: &Operation) -> bool {
    let known_since = match (&maker.request, &maker.response) {
        (Request::Create { .. }, _) => return true,
        // A write that succeeded had made its version by then.
        (
            _,
            Response::Stored { .. } | Response::Accepted { status: OperationStatus::Succeeded, .. },
        ) => maker.ended,
        _ => return false,
    };
    known_since < operation.began
}
