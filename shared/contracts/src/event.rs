//! The log of changes: what happened to messages, in one order for all. Storage workers append to it, broadcasters read
//! it. It has no content: that is read when an event is delivered, so that deleted text does not come back.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{ClusterTime, Message, MessageId, Timestamp, UserId, Version};

/// Maximum number of changes in one entry of the log.
pub const MAX_ENTRY_CHANGES: usize = 256;

/// One change of one message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Kind of the change.
    #[serde(rename = "k")]
    pub kind: ChangeKind,
    /// The message.
    #[serde(rename = "m")]
    pub message_id: MessageId,
    /// Version of the message after the change.
    #[serde(rename = "v")]
    pub version: Version,
    /// Sender of the message.
    #[serde(rename = "f")]
    pub from_user_id: UserId,
    /// Recipient of the message.
    #[serde(rename = "t")]
    pub to_user_id: UserId,
}

/// The kinds of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// The message was stored.
    Created,
    /// Its content was replaced.
    Edited,
    /// It was replaced by a tombstone.
    Deleted,
}

/// The changes that a worker appended to the log together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// Number of the entry: from 1, without holes.
    pub seq: u64,
    /// Identifies the append that wrote the entry.
    pub append: Uuid,
    /// Time of the append, by the worker's clock.
    pub at: Timestamp,
    /// At least one, and at most [`MAX_ENTRY_CHANGES`].
    pub changes: Vec<Change>,
}

/// An entry as workers announce it to broadcasters. It may be lost: the log is the truth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hint {
    /// Identifies the log. Another one begins after a backup was restored.
    pub epoch: Uuid,
    /// The entry.
    pub entry: LogEntry,
    /// Time at which the worker had appended it, which reads of the changed messages must see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_time: Option<ClusterTime>,
}

/// A change as clients get it, with the message as it is when the event is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type")]
pub enum Event {
    /// A message was created.
    #[serde(rename = "message.created")]
    Created {
        /// Version of the message, which its `ETag` has in quotes.
        version: Version,
        /// The message.
        message: Message,
    },
    /// The content of a message was replaced. Several edits may arrive as one.
    #[serde(rename = "message.edited")]
    Edited {
        /// Version of the message, which its `ETag` has in quotes.
        version: Version,
        /// The message.
        message: Message,
    },
    /// A message was deleted.
    #[serde(rename = "message.deleted")]
    Deleted {
        /// The last version of the message.
        version: Version,
        /// The rest of the message.
        message: DeletedMessage,
    },
}

/// Fields of a deleted message that are still told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeletedMessage {
    /// Id of the message.
    pub id: MessageId,
    /// Sender of the message.
    pub from_user_id: UserId,
    /// Recipient of the message.
    pub to_user_id: UserId,
}

impl Change {
    /// Returns sender and recipient, once if they are the same.
    pub fn users(&self) -> impl Iterator<Item = &UserId> {
        let to = (self.from_user_id != self.to_user_id).then_some(&self.to_user_id);
        std::iter::once(&self.from_user_id).chain(to)
    }
}

impl LogEntry {
    /// Returns everyone whom a change of the entry concerns, once each.
    #[must_use]
    pub fn users(&self) -> BTreeSet<&UserId> {
        self.changes.iter().flat_map(Change::users).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        name.to_owned().try_into().unwrap()
    }

    #[test]
    fn an_entry_concerns_each_user_once() {
        let change = |from, to| Change {
            kind: ChangeKind::Created,
            message_id: MessageId::generate(),
            version: 1,
            from_user_id: user(from),
            to_user_id: user(to),
        };
        let changes = vec![change("bob", "alice"), change("alice", "carol"), change("dan", "dan")];
        let entry = LogEntry { seq: 1, append: Uuid::nil(), at: Timestamp::now(), changes };
        let users: Vec<&str> = entry.users().into_iter().map(UserId::as_str).collect();
        assert_eq!(users, ["alice", "bob", "carol", "dan"]);
    }

    /// Other releases read what this one writes.
    #[test]
    fn a_hint_is_written_as_ever_and_may_have_a_time() {
        let json = r#"{"epoch":"019aa000-0000-7000-8000-000000000001","entry":{"seq":7,"append":"019aa000-0000-7000-8000-000000000002","at":"2026-01-31T12:00:00.000Z","changes":[{"k":"deleted","m":"019aa000-0000-7000-8000-000000000003","v":4,"f":"alice","t":"bob"}]}}"#;
        let mut hint: Hint = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&hint).unwrap(), json);
        hint.cluster_time = Some(ClusterTime::new(1, 2));
        let written = serde_json::to_string(&hint).unwrap();
        assert!(written.ends_with(r#"},"cluster_time":4294967298}"#), "{written}");
        assert_eq!(serde_json::from_str::<Hint>(&written).unwrap(), hint);
    }
}
