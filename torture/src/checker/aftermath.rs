//! The end of a run: lists, the queue, and dead letters.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use contracts::{Message, MessageId};

use super::{Aftermath, Conversation, Violation};
use crate::history::{Effect, Failure, Operation, Request};

/// Client of the final reads.
const FINAL: &str = "final";

pub(super) fn check(operations: &[Operation], aftermath: &Aftermath) -> Vec<Violation> {
    let mut found = Vec::new();
    let stored = final_states(operations, &mut found);
    let creates = creates_by_content(operations);
    for conversation in &aftermath.conversations {
        lists_all_that_is_stored(conversation, &stored, &mut found);
        lists_nothing_else(conversation, &stored, &creates, &mut found);
    }
    if aftermath.left_in_queue > 0 {
        let detail = format!("{} deliveries are left", aftermath.left_in_queue);
        found.push(violation("every command comes to its end", None, detail));
    }
    for dead_letter in &aftermath.dead_letters {
        if !aftermath.poison.contains(dead_letter) {
            let detail = String::from_utf8_lossy(dead_letter).into_owned();
            found.push(violation("only poison is dead-lettered", None, detail));
        }
    }
    for poison in &aftermath.poison {
        if !aftermath.dead_letters.contains(poison) {
            let detail = String::from_utf8_lossy(poison).into_owned();
            found.push(violation("all poison is dead-lettered", None, detail));
        }
    }
    found
}

/// Returns each known message as it was read in the end; `None` for 404.
fn final_states<'a>(
    operations: &'a [Operation],
    found: &mut Vec<Violation>,
) -> BTreeMap<MessageId, Option<&'a Message>> {
    let mut states = BTreeMap::new();
    for operation in operations.iter().filter(|operation| operation.client == FINAL) {
        let Some(id) = operation.message() else { continue };
        let state = match (operation.seen(), operation.failure()) {
            (Some(seen), _) => Some(&seen.message),
            (None, Some(Failure::NotFound)) => None,
            _ => {
                let rule = "what is stored can be read in the end";
                found.push(violation(rule, Some(id), operation.to_string()));
                continue;
            }
        };
        states.insert(id, state);
    }
    states
}

fn creates_by_content(operations: &[Operation]) -> HashMap<&str, Vec<&Operation>> {
    let mut creates: HashMap<&str, Vec<&Operation>> = HashMap::new();
    for operation in operations {
        if let Request::Create { content, .. } = &operation.request {
            creates.entry(content).or_default().push(operation);
        }
    }
    creates
}

fn lists_all_that_is_stored(
    conversation: &Conversation,
    stored: &BTreeMap<MessageId, Option<&Message>>,
    found: &mut Vec<Violation>,
) {
    let listed: BTreeMap<MessageId, &Message> =
        conversation.messages.iter().map(|message| (message.id, message)).collect();
    if listed.len() != conversation.messages.len() {
        let detail = format!("{} to {}", conversation.from, conversation.to);
        found.push(violation("a list has each message once", None, detail));
    }
    for (&id, state) in stored {
        let Some(state) = state else { continue };
        let belongs = state.from_user_id.as_str() == conversation.from
            && state.to_user_id.as_str() == conversation.to;
        if belongs && listed.get(&id) != Some(state) {
            let detail = format!("stored {state:?}, listed {:?}", listed.get(&id));
            found.push(violation("a list has what is stored", Some(id), detail));
        }
    }
}

fn lists_nothing_else(
    conversation: &Conversation,
    stored: &BTreeMap<MessageId, Option<&Message>>,
    creates: &HashMap<&str, Vec<&Operation>>,
    found: &mut Vec<Violation>,
) {
    let mut strangers = BTreeSet::new();
    for message in &conversation.messages {
        match stored.get(&message.id) {
            Some(Some(_)) => {}
            Some(None) => {
                let detail = format!("{message:?}");
                found.push(violation("a list has no deleted message", Some(message.id), detail));
            }
            None => {
                let detail = stranger(message, creates, &mut strangers);
                if let Some((rule, detail)) = detail {
                    found.push(violation(rule, Some(message.id), detail));
                }
            }
        }
    }
}

/// Checks a message whose id no client knows: it must come from a create of unknown outcome, and cannot have been
/// changed since.
fn stranger<'a>(
    message: &'a Message,
    creates: &HashMap<&str, Vec<&Operation>>,
    strangers: &mut BTreeSet<&'a str>,
) -> Option<(&'static str, String)> {
    let content = message.content.as_str();
    let made = creates.get(content).and_then(|creates| creates.first());
    let Some(made) = made else {
        return Some(("a message that no client wrote", format!("{message:?}")));
    };
    let detail = format!("{message:?} was made by\n  {made}");
    if made.message().is_some() || !strangers.insert(content) {
        Some(("a create takes effect once", detail))
    } else if made.effect() == Effect::Excluded {
        Some(("a write that was refused or had failed took effect", detail))
    } else {
        None
    }
}

fn violation(rule: &'static str, message: Option<MessageId>, detail: String) -> Violation {
    Violation { rule, message, detail }
}
