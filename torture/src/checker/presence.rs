//! Presence: a message exists from its create until a delete, and never again.

use super::Case;
use crate::history::{Effect, Failure, Operation, OperationStatus, Request, Response};

pub(super) fn check(case: &mut Case<'_>) {
    let operations = case.operations.clone();
    let there_since = operations.iter().filter(|it| shows_presence(it)).map(|it| it.ended).min();
    let deletable_since = deletes(&operations)
        .filter(|delete| delete.effect() != Effect::Excluded)
        .map(|delete| delete.began)
        .min();
    let was_there = |operation: &Operation| there_since.is_some_and(|at| at < operation.began);
    for operation in &operations {
        let missed = match operation.failure() {
            Some(Failure::NotFound) => was_there(operation),
            // It says that the message is gone.
            Some(Failure::DeletedSince) => true,
            _ => false,
        };
        if missed && deletable_since.is_none_or(|at| at > operation.ended) {
            let detail = format!("nothing can have deleted it before\n  {operation}");
            case.violated("an acknowledged message is missing", detail);
        }
    }
    let gone = operations.iter().filter(|it| shows_absence(it, was_there(it)));
    let gone = gone.min_by_key(|operation| operation.ended).copied();
    stays_gone(case, &operations, gone);
    deleted_once(case, &operations);
}

fn deletes<'a>(operations: &'a [&Operation]) -> impl Iterator<Item = &'a Operation> {
    operations
        .iter()
        .copied()
        .filter(|operation| matches!(operation.request, Request::Delete { .. }))
}

/// Returns true if the message existed at some time between request and response.
fn shows_presence(operation: &Operation) -> bool {
    match &operation.request {
        Request::Delete { .. } => operation.failure() == Some(Failure::VersionMismatch),
        Request::Create { .. } | Request::Edit { .. } | Request::Read { .. } => {
            let succeeded = matches!(
                operation.response,
                Response::Accepted { status: OperationStatus::Succeeded, .. }
            );
            operation.seen().is_some()
                || succeeded
                || matches!(
                    operation.failure(),
                    Some(Failure::VersionMismatch | Failure::KeyReused)
                )
        }
    }
}

/// Returns true if the message had existed and was deleted.
fn shows_absence(operation: &Operation, was_there: bool) -> bool {
    match operation.failure() {
        Some(Failure::NotFound) => was_there,
        Some(Failure::DeletedSince) => true,
        _ => {
            matches!(operation.request, Request::Delete { .. })
                && operation.effect() == Effect::Certain
        }
    }
}

fn stays_gone(case: &mut Case<'_>, operations: &[&Operation], gone: Option<&Operation>) {
    let Some(gone) = gone else { return };
    for operation in operations.iter().filter(|operation| operation.began > gone.ended) {
        if shows_presence(operation) {
            let detail = format!("after\n  {gone}\n  came\n  {operation}");
            case.violated("a deleted message came back", detail);
        }
    }
}

fn deleted_once(case: &mut Case<'_>, operations: &[&Operation]) {
    let done: Vec<&Operation> =
        deletes(operations).filter(|delete| delete.effect() == Effect::Certain).collect();
    if let [first, second, ..] = done[..] {
        let detail = format!("both deleted it\n  {first}\n  {second}");
        case.violated("a delete takes effect once", detail);
    }
    let newest = operations
        .iter()
        .filter_map(|operation| Some((operation.seen()?.version, *operation)))
        .max_by_key(|(version, _)| *version);
    for delete in done {
        if let (Request::Delete { condition, .. }, Some((version, seen))) =
            (&delete.request, newest)
            && !condition.allows_from(version)
        {
            let detail = format!("with version {version} there\n  {seen}\n  {delete}");
            case.violated("the condition decides what a delete is applied to", detail);
        }
    }
}
