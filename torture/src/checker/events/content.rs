//! Content of events: a message that its subscriber follows, in a state that a client wrote and that all others see.

use std::collections::{HashMap, HashSet};

use contracts::{Message, MessageId, Version};

use super::{
    super::{Streams, Violation, frames::writes_by_content},
    followed,
};
use crate::{
    arrivals::{Arrival, Told},
    history::{Effect, Operation, Request},
};

pub(super) fn check(operations: &[Operation], streams: &Streams) -> Vec<Violation> {
    let written = writes_by_content(operations);
    let mut states = states(operations);
    let deletes = deletes(operations);
    let mut found = Vec::new();
    for arrival in &streams.arrivals {
        let Some((_, told)) = arrival.event() else { continue };
        let mut violated = |rule| {
            let detail = arrival.to_string();
            found.push(Violation { rule, message: Some(told.id), detail });
        };
        if !is_followed(streams, arrival, told) {
            violated("a subscriber is sent messages of the user that it follows only");
        }
        let Some(message) = told.message else {
            if !deletes.contains(&told.id) {
                violated("a deletion is told only if a client asked for it");
            }
            continue;
        };
        match written.get(message.content.as_str()) {
            None => violated("an event shows a state that a client wrote"),
            Some(Effect::Excluded) => {
                violated("a write that was refused or had failed took effect");
            }
            Some(_) if *states.entry((told.id, told.version)).or_insert(message) != message => {
                violated("one version, two states");
            }
            Some(_) => {}
        }
    }
    found
}

fn is_followed(streams: &Streams, arrival: &Arrival, told: Told<'_>) -> bool {
    followed(streams, arrival.subscriber)
        .is_some_and(|followed| followed.wants(told.from.as_str(), told.to.as_str()))
}

fn states(operations: &[Operation]) -> HashMap<(MessageId, Version), &Message> {
    let seen = operations.iter().filter_map(Operation::seen);
    seen.map(|state| ((state.message.id, state.version), &state.message)).collect()
}

/// Returns the messages that may have been deleted, and are not there in the end.
fn deletes(operations: &[Operation]) -> HashSet<MessageId> {
    let mut deletes = HashSet::new();
    let mut stored = HashSet::new();
    for operation in operations {
        match operation.request {
            Request::Delete { id, .. } if operation.effect() != Effect::Excluded => {
                deletes.insert(id);
            }
            Request::Read { id } if operation.client == "final" && operation.seen().is_some() => {
                stored.insert(id);
            }
            _ => {}
        }
    }
    deletes.retain(|id| !stored.contains(id));
    deletes
}
