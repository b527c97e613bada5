//! Pages of lists, and the queries that MongoDB can answer from one index.

use std::cmp::Ordering;

use contracts::{MessageId, Timestamp, UserId, VersionedMessage};
use mongodb::bson::{Document, RawBsonRef, RawDocument, doc, spec::BinarySubtype};
use uuid::Uuid;

use crate::convert::{bson_date, bson_uuid, from_bson_date, raw_uuid};

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
    /// Returns the position of any document in a list, so that unreadable ones end no list; `None` if no
    /// message can follow it.
    pub(crate) fn of(document: &RawDocument) -> Option<Self> {
        let field = |name| document.get(name).ok().flatten();
        let publish_timestamp = match field("publish_timestamp") {
            Some(RawBsonRef::DateTime(date)) => match from_bson_date(date) {
                Ok(timestamp) => timestamp,
                Err(_) if date.timestamp_millis() > 0 => return Some(Self::before_all()),
                Err(_) => return None,
            },
            // MongoDB sorts these before all dates, and every other type behind them.
            Some(
                RawBsonRef::Timestamp(_) | RawBsonRef::RegularExpression(_) | RawBsonRef::MaxKey,
            ) => {
                return Some(Self::before_all());
            }
            _ => return None,
        };
        let id = match place_among_ids(field("_id")) {
            Ordering::Equal => raw_uuid(document).ok()?,
            // The messages of this instant follow.
            Ordering::Greater => Uuid::max(),
            // They came before, so the messages of the instant before this one follow.
            Ordering::Less => {
                let millis = publish_timestamp.unix_millis() - 1;
                let publish_timestamp = Timestamp::from_unix_millis(millis).ok()?;
                return Some(Self { publish_timestamp, id: Uuid::max().into() });
            }
        };
        Some(Self { publish_timestamp, id: id.into() })
    }

    /// Returns the position before all messages.
    fn before_all() -> Self {
        Self { publish_timestamp: Timestamp::MAX, id: Uuid::max().into() }
    }
}

/// Returns where MongoDB sorts this `_id`: among the ids of messages, or on a side of all of them.
fn place_among_ids(id: Option<RawBsonRef<'_>>) -> Ordering {
    match id {
        // Binaries are compared by length, then by subtype, then by their bytes.
        Some(RawBsonRef::Binary(binary)) => {
            let kind = (binary.bytes.len(), u8::from(binary.subtype));
            kind.cmp(&(16, u8::from(BinarySubtype::Uuid)))
        }
        // These types sort below binaries, and every other type above.
        Some(
            RawBsonRef::MinKey
            | RawBsonRef::Null
            | RawBsonRef::Int32(_)
            | RawBsonRef::Int64(_)
            | RawBsonRef::Double(_)
            | RawBsonRef::Decimal128(_)
            | RawBsonRef::String(_)
            | RawBsonRef::Symbol(_)
            | RawBsonRef::Document(_),
        ) => Ordering::Less,
        _ => Ordering::Greater,
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
