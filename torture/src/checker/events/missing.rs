//! Arrival of everything that is stored in the end: each message in its last version, or its deletion. An older version
//! need not have: a message is read when its event is sent.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    time::Duration,
};

use contracts::{MessageId, Version};

use super::{
    super::{Aftermath, Conversation, Streams, Violation, by_message},
    outline,
};
use crate::{
    arrivals::{Arrival, Arrived, Followed},
    history::{Effect, Failure, Operation, Request},
};

/// Facts about a message of which each subscriber that follows it must have been told.
#[derive(Debug)]
pub(crate) struct Expected<'a> {
    id: MessageId,
    from: &'a str,
    to: &'a str,
    end: End<'a>,
}

/// The end of a message.
#[derive(Debug)]
enum End<'a> {
    Stored {
        version: Version,
        content: &'a str,
    },
    /// `since`: the earliest time at which it can have been deleted.
    Deleted {
        since: Duration,
    },
}

/// News that a subscriber was told.
#[derive(Default)]
struct Knowledge<'a> {
    /// The newest version of each message, and whether its deletion has arrived.
    messages: HashMap<MessageId, (Version, bool)>,
    /// The lists after resets, with their ends.
    lists: Vec<(Duration, &'a HashMap<MessageId, String>)>,
}

pub(super) fn check(operations: &[Operation], aftermath: &Aftermath) -> Vec<Violation> {
    let expected = expected(operations, &aftermath.conversations);
    let Streams { followed, arrivals, .. } = &aftermath.streams;
    let violation = |(subscriber, expected): (usize, &Expected<'_>)| {
        let who = followed.get(subscriber).map_or(String::new(), ToString::to_string);
        let did = outline(arrivals.iter().filter(|arrival| arrival.subscriber == subscriber));
        Violation {
            rule: "every change reaches who follows its message, or a reset comes",
            message: Some(expected.id),
            detail: format!(
                "event subscriber {subscriber} ({who}) was not told of {expected}{did}"
            ),
        }
    };
    missing(&expected, followed, arrivals).into_iter().map(violation).collect()
}

/// Returns what must have arrived in the end.
pub(crate) fn expected<'a>(
    operations: &'a [Operation],
    conversations: &'a [Conversation],
) -> Vec<Expected<'a>> {
    let mut all = BTreeMap::new();
    // Those that no client knows, too: their creates had no response. Nothing has changed them since.
    for message in conversations.iter().flat_map(|conversation| &conversation.messages) {
        let (from, to) = (message.from_user_id.as_str(), message.to_user_id.as_str());
        let end = End::Stored { version: 1, content: message.content.as_str() };
        all.insert(message.id, Expected { id: message.id, from, to, end });
    }
    for (id, operations) in by_message(operations) {
        if let Some(expected) = end_of(id, &operations) {
            all.insert(id, expected);
        }
    }
    all.into_values().collect()
}

fn end_of<'a>(id: MessageId, operations: &[&'a Operation]) -> Option<Expected<'a>> {
    let last = operations.iter().rfind(|operation| operation.client == "final")?;
    if let Some(seen) = last.seen() {
        let (from, to) = (seen.message.from_user_id.as_str(), seen.message.to_user_id.as_str());
        let end = End::Stored { version: seen.version, content: seen.message.content.as_str() };
        return Some(Expected { id, from, to, end });
    }
    let existed = |it: &&&Operation| it.seen().is_some() || it.effect() == Effect::Certain;
    if last.failure() != Some(Failure::NotFound) || operations.iter().find(existed).is_none() {
        return None;
    }
    let (from, to) = operations.iter().find_map(|operation| match &operation.request {
        Request::Create { from, to, .. } => Some((from.as_str(), to.as_str())),
        _ => None,
    })?;
    let deletes = operations.iter().filter(|operation| {
        matches!(operation.request, Request::Delete { .. })
            && operation.effect() != Effect::Excluded
    });
    let since = deletes.map(|delete| delete.began).min()?;
    Some(Expected { id, from, to, end: End::Deleted { since } })
}

/// Returns what has not arrived, with the number of the subscriber.
pub(crate) fn missing<'a>(
    expected: &'a [Expected<'a>],
    followed: &[Followed],
    arrivals: &[Arrival],
) -> Vec<(usize, &'a Expected<'a>)> {
    let known = knowledge(followed.len(), arrivals);
    let mut missing = Vec::new();
    for (subscriber, (followed, known)) in followed.iter().zip(&known).enumerate() {
        let wanted = expected.iter().filter(|it| followed.wants(it.from, it.to));
        missing.extend(wanted.filter(|it| !known.covers(it)).map(|it| (subscriber, it)));
    }
    missing
}

fn knowledge(subscribers: usize, arrivals: &[Arrival]) -> Vec<Knowledge<'_>> {
    let mut known: Vec<Knowledge<'_>> = Vec::new();
    known.resize_with(subscribers, Knowledge::default);
    for arrival in arrivals {
        let Some(known) = known.get_mut(arrival.subscriber) else { continue };
        if let Some((_, told)) = arrival.event() {
            let (version, deleted) = known.messages.entry(told.id).or_default();
            *version = told.version.max(*version);
            *deleted |= told.message.is_none();
        }
        if let Arrived::Listed { contents, .. } = &arrival.what {
            known.lists.push((arrival.at, contents));
        }
    }
    known
}

impl Knowledge<'_> {
    fn covers(&self, expected: &Expected<'_>) -> bool {
        let told = self.messages.get(&expected.id);
        match expected.end {
            End::Stored { version, content } => {
                told.is_some_and(|(newest, _)| *newest >= version)
                    // No two writes have the same content.
                    || self.lists.iter().any(|(_, list)| {
                        list.get(&expected.id).is_some_and(|listed| listed == content)
                    })
            }
            End::Deleted { since } => {
                told.is_some_and(|(_, deleted)| *deleted)
                    || self
                        .lists
                        .iter()
                        .any(|(ended, list)| since < *ended && !list.contains_key(&expected.id))
            }
        }
    }
}

impl fmt::Display for Expected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.end {
            End::Stored { version, content } => write!(f, "version {version}, {content}"),
            End::Deleted { .. } => f.write_str("the deletion"),
        }
    }
}
