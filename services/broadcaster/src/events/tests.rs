//! Helpers of tests.

use contracts::{Change, ChangeKind, LogEntry, MessageId, Timestamp, UserId};
use uuid::Uuid;

pub(crate) fn user(name: &str) -> UserId {
    name.to_owned().try_into().unwrap()
}

pub(crate) fn change(from: &str, to: &str) -> Change {
    Change {
        kind: ChangeKind::Created,
        message_id: MessageId::generate(),
        version: 1,
        from_user_id: user(from),
        to_user_id: user(to),
    }
}

/// An entry with a change for each of these pairs.
pub(crate) fn entry(seq: u64, changes: &[(&str, &str)]) -> LogEntry {
    let changes = changes.iter().map(|(from, to)| change(from, to)).collect();
    LogEntry { seq, append: Uuid::new_v4(), at: Timestamp::now(), changes }
}
