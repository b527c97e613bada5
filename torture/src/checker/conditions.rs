//! Responses that say why a write changed nothing: 412, and superseded edits.

use contracts::Version;

use super::Case;
use crate::history::{Failure, Operation, OperationStatus, Request, Response};

pub(super) fn check(case: &mut Case<'_>) {
    let operations = case.operations.clone();
    for operation in &operations {
        if operation.failure() == Some(Failure::VersionMismatch)
            && let Some(condition) = condition(operation)
        {
            mismatch(case, &operations, operation, condition);
        }
        if let (Response::Stored { state, .. }, Request::Edit { content, if_match, .. }) =
            (&operation.response, &operation.request)
            && state.message.content.as_str() != content
        {
            match if_match {
                // A redelivery, after which another write came.
                Some(condition) if state.version > condition + 1 => {}
                Some(_) => {
                    let detail = operation.to_string();
                    case.violated("a conditional edit is answered with its state or newer", detail);
                }
                None => superseded(case, &operations, operation, state.message.content.as_str()),
            }
        }
    }
}

fn condition(operation: &Operation) -> Option<Version> {
    match operation.request {
        Request::Edit { if_match, .. } | Request::Delete { if_match, .. } => if_match,
        Request::Create { .. } | Request::Read { .. } => None,
    }
}

/// Checks a 412: it is wrong if the version matched before and after.
fn mismatch(
    case: &mut Case<'_>,
    operations: &[&Operation],
    operation: &Operation,
    condition: Version,
) {
    let shows = |it: &&&Operation| it.seen().is_some_and(|seen| seen.version == condition);
    let before = operations.iter().filter(shows).find(|it| it.ended < operation.began);
    let after = operations.iter().filter(shows).find(|it| it.began > operation.ended);
    if let (Some(before), Some(after)) = (before, after) {
        let detail = format!("between\n  {before}\n  and\n  {after}\n  came\n  {operation}");
        case.violated("412 only where the version is another one", detail);
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
