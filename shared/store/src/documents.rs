//! Documents as MongoDB holds them, and their way from and to the wire types.

use contracts::{
    CommandId, Content, Message, MessageId, Timestamp, UserId, Version, VersionedMessage,
};
use mongodb::bson::{self, Binary, DateTime, RawBsonRef, RawDocument, spec::BinarySubtype};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{StoreError, operation_records::RecordedOutcome};

/// A message, in the collection `messages`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MessageDocument {
    #[serde(rename = "_id")]
    pub(crate) id: bson::Uuid,
    pub(crate) from_user_id: String,
    pub(crate) to_user_id: String,
    pub(crate) content: String,
    pub(crate) publish_timestamp: DateTime,
    pub(crate) edit_timestamp: Option<DateTime>,
    pub(crate) version: i64,
    /// The command that created it.
    pub(crate) created_by: bson::Uuid,
    /// SHA-256 of sender, recipient and content as created; tells a repeat of an idempotency key
    /// from its reuse, also after edits.
    pub(crate) fingerprint: Binary,
    /// The newest commands that changed it, newest first.
    pub(crate) applied: Vec<AppliedCommand>,
}

/// A command that changed a message, and the version it made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AppliedCommand {
    pub(crate) command: bson::Uuid,
    pub(crate) version: i64,
}

/// What a deleted message leaves: enough to stop every command that would bring it back, and
/// nothing of what it said.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Tombstone {
    #[serde(rename = "_id")]
    pub(crate) id: bson::Uuid,
    pub(crate) created_by: bson::Uuid,
    pub(crate) applied: Vec<AppliedCommand>,
}

/// Whatever stands in the collection `messages`.
#[derive(Clone, Debug)]
pub(crate) enum StoredDocument {
    Message(Box<MessageDocument>),
    Tombstone(Tombstone),
}

/// How a command ended, in the collection `operations`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct EndingDocument {
    #[serde(rename = "_id")]
    pub(crate) id: bson::Uuid,
    pub(crate) message_id: bson::Uuid,
    pub(crate) ending: RecordedOutcome,
    pub(crate) recorded_at: DateTime,
}

impl StoredDocument {
    /// Only a tombstone has `deleted_at`.
    pub(crate) fn from_raw(document: &RawDocument) -> Result<Self, StoreError> {
        let deleted = document.get("deleted_at").map_err(unreadable)?.is_some();
        let bytes = document.as_bytes();
        if deleted {
            bson::deserialize_from_slice(bytes).map(Self::Tombstone)
        } else {
            bson::deserialize_from_slice(bytes).map(Self::Message)
        }
        .map_err(unreadable)
    }

    pub(crate) fn id(&self) -> bson::Uuid {
        match self {
            Self::Message(message) => message.id,
            Self::Tombstone(tombstone) => tombstone.id,
        }
    }
}

impl MessageDocument {
    /// When it last changed.
    pub(crate) fn changed_at(&self) -> DateTime {
        self.edit_timestamp.unwrap_or(self.publish_timestamp)
    }

    pub(crate) fn into_versioned(self) -> Result<VersionedMessage, StoreError> {
        let version = Version::try_from(self.version).map_err(unreadable)?;
        let message = Message {
            id: MessageId::from(from_bson_uuid(self.id)),
            from_user_id: UserId::try_from(self.from_user_id).map_err(unreadable)?,
            to_user_id: UserId::try_from(self.to_user_id).map_err(unreadable)?,
            content: Content::try_from(self.content).map_err(unreadable)?,
            publish_timestamp: from_bson_date(self.publish_timestamp)?,
            edit_timestamp: self.edit_timestamp.map(from_bson_date).transpose()?,
        };
        Ok(VersionedMessage { message, version })
    }
}

/// The id of a document.
pub(crate) fn raw_uuid(document: &RawDocument) -> Result<Uuid, StoreError> {
    let id = document.get_binary("_id").map_err(unreadable)?;
    Uuid::from_slice(id.bytes).map_err(unreadable)
}

/// What clients see of a message's document. Read by hand, since a page has many and serde takes
/// several times as long.
pub(crate) fn raw_message(document: &RawDocument) -> Result<VersionedMessage, StoreError> {
    let (mut from, mut to, mut content) = (None, None, None);
    let (mut published, mut edited, mut version) = (None, None, None);
    for element in document {
        let (key, value) = element.map_err(unreadable)?;
        match (key.as_str(), value) {
            ("from_user_id", RawBsonRef::String(text)) => from = Some(text.to_owned()),
            ("to_user_id", RawBsonRef::String(text)) => to = Some(text.to_owned()),
            ("content", RawBsonRef::String(text)) => content = Some(text.to_owned()),
            ("publish_timestamp", RawBsonRef::DateTime(date)) => published = Some(date),
            ("edit_timestamp", RawBsonRef::DateTime(date)) => edited = Some(Some(date)),
            ("edit_timestamp", RawBsonRef::Null) => edited = Some(None),
            ("version", RawBsonRef::Int64(number)) => version = Some(number),
            _ => {}
        }
    }
    let damaged = |name| move || StoreError::Unreadable(format!("{name} is missing or damaged"));
    let message = Message {
        id: MessageId::from(raw_uuid(document)?),
        from_user_id: from.ok_or_else(damaged("from_user_id"))?.try_into().map_err(unreadable)?,
        to_user_id: to.ok_or_else(damaged("to_user_id"))?.try_into().map_err(unreadable)?,
        content: content.ok_or_else(damaged("content"))?.try_into().map_err(unreadable)?,
        publish_timestamp: from_bson_date(published.ok_or_else(damaged("publish_timestamp"))?)?,
        edit_timestamp: edited
            .ok_or_else(damaged("edit_timestamp"))?
            .map(from_bson_date)
            .transpose()?,
    };
    let version = version.ok_or_else(damaged("version"))?;
    Ok(VersionedMessage { message, version: Version::try_from(version).map_err(unreadable)? })
}

/// Whether `command` is among the newest that changed the document.
pub(crate) fn applied_version(applied: &[AppliedCommand], command: CommandId) -> Option<i64> {
    let command = command_uuid(command);
    applied.iter().find(|entry| entry.command == command).map(|entry| entry.version)
}

pub(crate) fn fingerprint(from: &UserId, to: &UserId, content: &Content) -> Binary {
    let mut hasher = Sha256::new();
    for part in [from.as_str(), to.as_str(), content.as_str()] {
        // The length keeps ("ab", "c") apart from ("a", "bc").
        hasher.update(part.len().to_be_bytes());
        hasher.update(part);
    }
    Binary { subtype: BinarySubtype::Generic, bytes: hasher.finalize().to_vec() }
}

pub(crate) fn message_uuid(id: MessageId) -> bson::Uuid {
    bson::Uuid::from_bytes(Uuid::from(id).into_bytes())
}

pub(crate) fn command_uuid(id: CommandId) -> bson::Uuid {
    bson::Uuid::from_bytes(Uuid::from(id).into_bytes())
}

pub(crate) fn bson_date(timestamp: Timestamp) -> DateTime {
    DateTime::from_millis(timestamp.unix_millis())
}

pub(crate) fn from_bson_uuid(id: bson::Uuid) -> Uuid {
    Uuid::from_bytes(id.bytes())
}

pub(crate) fn from_bson_date(date: DateTime) -> Result<Timestamp, StoreError> {
    Timestamp::from_unix_millis(date.timestamp_millis()).map_err(unreadable)
}

pub(crate) fn unreadable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Unreadable(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_tells_where_the_parts_end() {
        let user = |text: &str| UserId::try_from(text.to_owned()).unwrap();
        let content = |text: &str| Content::try_from(text.to_owned()).unwrap();
        let once = fingerprint(&user("a"), &user("b"), &content("c"));
        assert_eq!(once, fingerprint(&user("a"), &user("b"), &content("c")));
        assert_ne!(once, fingerprint(&user("ab"), &user("c"), &content("c")));
        assert_ne!(
            fingerprint(&user("a"), &user("bc"), &content("d")),
            fingerprint(&user("ab"), &user("c"), &content("d"))
        );
    }
}
