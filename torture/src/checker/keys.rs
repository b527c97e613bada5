//! Idempotency keys: one key stands for one message, created once, from one body.

use std::collections::BTreeSet;

use super::Case;
use crate::history::{Effect, Failure, Operation, Request, Response};

pub(super) fn check(case: &mut Case<'_>) {
    let creates: Vec<(&Operation, &str)> = case
        .operations
        .iter()
        .filter_map(|operation| match &operation.request {
            Request::Create { content, .. } => Some((*operation, content.as_str())),
            _ => None,
        })
        .collect();
    let fresh: Vec<&Operation> = creates
        .iter()
        .map(|(create, _)| *create)
        .filter(|create| matches!(create.response, Response::Stored { replayed: false, .. }))
        .collect();
    if let [first, second, ..] = fresh[..] {
        let detail = format!("both responses say that it was created\n  {first}\n  {second}");
        case.violated("a create takes effect once", detail);
    }
    let certain: BTreeSet<&str> = creates
        .iter()
        .filter(|(create, _)| create.effect() == Effect::Certain)
        .map(|(_, content)| *content)
        .collect();
    if certain.len() > 1 {
        let detail = format!("created with each of {certain:?}");
        case.violated("one key, one body", detail);
    }
    for (create, content) in &creates {
        let may_have_made = |same_body: bool| {
            creates.iter().any(|(other, body)| {
                !std::ptr::eq(*other, *create)
                    && (body == content) == same_body
                    && other.effect() != Effect::Excluded
                    && other.began < create.ended
            })
        };
        if create.failure() == Some(Failure::KeyReused) {
            if certain.contains(content) {
                let detail = create.to_string();
                case.violated("a repeat with the same body succeeds", detail);
            } else if !may_have_made(false) {
                let detail = create.to_string();
                case.violated("a key is refused only after it was used", detail);
            }
        }
        let replayed = matches!(create.response, Response::Stored { replayed: true, .. });
        if replayed && !may_have_made(true) {
            let detail = create.to_string();
            case.violated("only an earlier create is replayed", detail);
        }
    }
}
