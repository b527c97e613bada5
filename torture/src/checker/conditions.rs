//! Answers that say why a write changed nothing: 412, and edits that were superseded.

use contracts::Version;

use super::Case;
use crate::history::{Fate, No, Observed, Operation, Request};

pub(super) fn check(case: &mut Case<'_>) {
    let operations = case.operations.clone();
    for operation in &operations {
        if operation.no() == Some(No::VersionMismatch)
            && let Some(condition) = condition(operation)
        {
            mismatch(case, &operations, operation, condition);
        }
        if let (Observed::Stored { state, .. }, Request::Edit { content, if_match, .. }) =
            (&operation.outcome, &operation.request)
            && state.message.content.as_str() != content
        {
            match if_match {
                // Delivered again, and another write has come after it.
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

/// A 412 is wrong where the version was the right one before and after.
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

/// A plain edit is later than all that is stored when it is taken, so what supersedes it was stored
/// afterwards.
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
    // One that nobody wrote is found by its version.
    let Some(by) = by else { return };
    if is_certainly_older(by, operation) {
        let detail = format!("\n  {operation}\n  was superseded by the older\n  {by}");
        case.violated("a write is superseded by a newer one only", detail);
    }
}

/// Whether a write that made a version had made it before this plain edit was asked for.
pub(super) fn is_certainly_older(maker: &Operation, operation: &Operation) -> bool {
    let known_since = match (&maker.request, &maker.outcome) {
        (Request::Create { .. }, _) => return true,
        // What succeeded, and made a version, had made it by then.
        (_, Observed::Stored { .. } | Observed::Accepted { fate: Fate::Succeeded, .. }) => {
            maker.ended
        }
        _ => return false,
    };
    known_since < operation.began
}
