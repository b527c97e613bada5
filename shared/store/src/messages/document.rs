//! Documents of the collection `messages`, and their way to the wire types.

use contracts::{CommandId, Content, Message, MessageId, UserId, Version, VersionedMessage};
use mongodb::bson::{self, Binary, DateTime, RawBsonRef, RawDocument};
use serde::{Deserialize, Serialize};

use crate::{
    convert::{command_uuid, from_bson_date, from_bson_uuid, raw_uuid, unreadable},
    error::StoreError,
};

/// Number of commands that a message remembers of those that changed it.
pub(crate) const REMEMBERED_COMMANDS: i32 = 32;

/// A message.
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
    /// The command that created the message.
    pub(crate) created_by: bson::Uuid,
    /// SHA-256 of sender, recipient and content as created. It tells a repeat of an idempotency key
    /// from its reuse, also after edits.
    pub(crate) fingerprint: Binary,
    /// The newest commands that changed the message, newest first.
    pub(crate) applied: Vec<AppliedCommand>,
}

/// A command that changed a message, and the version that it made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AppliedCommand {
    pub(crate) command: bson::Uuid,
    pub(crate) version: i64,
}

/// The rest of a deleted message: enough to stop every command that would bring it back, without its
/// content.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Tombstone {
    #[serde(rename = "_id")]
    pub(crate) id: bson::Uuid,
    pub(crate) created_by: bson::Uuid,
    pub(crate) applied: Vec<AppliedCommand>,
}

/// Any document of the collection.
#[derive(Clone, Debug)]
pub(crate) enum StoredDocument {
    Message(Box<MessageDocument>),
    Tombstone(Tombstone),
}

impl StoredDocument {
    pub(crate) fn from_raw(document: &RawDocument) -> Result<Self, StoreError> {
        // Only a tombstone has this field.
        let deleted = document.get("deleted_at").map_err(unreadable)?.is_some();
        let bytes = document.as_bytes();
        if deleted {
            bson::deserialize_from_slice(bytes).map(Self::Tombstone)
        } else {
            bson::deserialize_from_slice(bytes).map(Self::Message)
        }
        .map_err(unreadable)
    }

    pub(crate) fn id(&self) -> MessageId {
        MessageId::from(from_bson_uuid(match self {
            Self::Message(message) => message.id,
            Self::Tombstone(tombstone) => tombstone.id,
        }))
    }

    pub(crate) fn created_by(&self) -> bson::Uuid {
        match self {
            Self::Message(message) => message.created_by,
            Self::Tombstone(tombstone) => tombstone.created_by,
        }
    }

    pub(crate) fn applied(&self) -> &[AppliedCommand] {
        match self {
            Self::Message(message) => &message.applied,
            Self::Tombstone(tombstone) => &tombstone.applied,
        }
    }

    /// Returns the version that a remembered command made.
    pub(crate) fn version_made_by(&self, command: CommandId) -> Option<i64> {
        let command = command_uuid(command);
        let mut applied = self.applied().iter();
        applied.find(|entry| entry.command == command).map(|entry| entry.version)
    }
}

impl MessageDocument {
    /// Returns the time of the last change.
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

/// Reads a message without serde, which takes several times as long. A page has many.
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
