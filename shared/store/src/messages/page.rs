//! Pages of lists, and the queries that MongoDB can answer from one index.

use contracts::{MessageId, Timestamp, UserId, VersionedMessage};
use mongodb::bson::{Document, RawDocument, doc};

use crate::{
    convert::{bson_date, bson_uuid, from_bson_date, raw_uuid, unreadable},
    error::StoreError,
};

/// Query for a page of messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListQuery {
    /// Sender of the messages.
    pub from_user_id: UserId,
    /// Recipient of the messages.
    pub to_user_id: UserId,
    /// Adds the messages from the recipient to the sender.
    pub both_directions: bool,
    /// Position before the page's first message; older ones follow.
    pub after: Option<Position>,
    /// Maximum number of messages.
    pub limit: u16,
}

/// A position in the order of all lists: newest first, then by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Publish timestamp of the message there.
    pub publish_timestamp: Timestamp,
    /// Id of the message there.
    pub id: MessageId,
}

/// A page of a list.
#[derive(Clone, Debug)]
pub struct Page {
    /// The messages, newest first.
    pub messages: Vec<VersionedMessage>,
    /// Position before the next page; `None` after the last one.
    pub next: Option<Position>,
}

impl Position {
    pub(crate) fn of(document: &RawDocument) -> Result<Self, StoreError> {
        let published = document.get_datetime("publish_timestamp").map_err(unreadable)?;
        let id = MessageId::from(raw_uuid(document)?);
        Ok(Self { publish_timestamp: from_bson_date(published)?, id })
    }
}

impl ListQuery {
    /// Returns a filter with one branch for each scan of the index: a direction, and after a position
    /// the messages at its instant and those before it. MongoDB merges the scans in order. Any other
    /// form would make a page deep in a conversation examine all newer messages. A tombstone has no
    /// users, so the filter matches none.
    pub(super) fn filter(&self) -> Document {
        let mut directions = vec![(&self.from_user_id, &self.to_user_id)];
        // A conversation with oneself has one direction.
        if self.both_directions && self.from_user_id != self.to_user_id {
            directions.push((&self.to_user_id, &self.from_user_id));
        }
        let ranges = match self.after {
            None => vec![doc! {}],
            Some(Position { publish_timestamp, id }) => {
                let at = bson_date(publish_timestamp);
                let same_instant =
                    doc! { "publish_timestamp": at, "_id": { "$lt": bson_uuid(id) } };
                vec![same_instant, doc! { "publish_timestamp": { "$lt": at } }]
            }
        };
        let mut branches = Vec::new();
        for (from, to) in directions {
            for range in &ranges {
                let mut branch = doc! { "from_user_id": from.as_str(), "to_user_id": to.as_str() };
                branch.extend(range.clone());
                branches.push(branch);
            }
        }
        if branches.len() == 1 {
            branches.remove(0)
        } else {
            doc! { "$or": branches }
        }
    }
}

/// Returns the order of all lists.
pub(super) fn order() -> Document {
    doc! { "publish_timestamp": -1, "_id": -1 }
}
