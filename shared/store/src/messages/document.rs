//! Documents of the collection `messages`, and their way to the wire types.

use std::collections::HashMap;

use contracts::{CommandId, Message, MessageId, Version, VersionedMessage};
use mongodb::bson::{self, Binary, RawBsonRef, RawDocument, RawDocumentBuf};
use serde::Deserialize;

use crate::{
    convert::{bson_uuid, from_bson_date, raw_uuid, unreadable},
    error::StoreError,
};

/// Number of commands that a message remembers of those that changed it.
pub(crate) const REMEMBERED_COMMANDS: i32 = 32;

/// A message or its tombstone, which has enough of it to stop every command that would bring it back.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct StoredDocument {
    /// The message; `None` in a tombstone.
    #[serde(skip)]
    pub(crate) message: Option<VersionedMessage>,
    /// The command that created the message.
    pub(crate) created_by: bson::Uuid,
    /// SHA-256 of sender, recipient and content as created. It tells a repeat of an idempotency key
    /// from its reuse, also after edits. A tombstone has none.
    pub(crate) fingerprint: Option<Binary>,
    /// The newest commands that changed the message, newest first.
    pub(crate) applied: Vec<AppliedCommand>,
}

/// A command that changed a message, and the version that it made.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct AppliedCommand {
    pub(crate) command: bson::Uuid,
    version: Version,
}

impl StoredDocument {
    pub(crate) fn from_raw(document: &RawDocument) -> Result<Self, StoreError> {
        let stored: Self = bson::deserialize_from_slice(document.as_bytes()).map_err(unreadable)?;
        // Only a tombstone has this field.
        let deleted = document.get("deleted_at").map_err(unreadable)?.is_some();
        let message = if deleted { None } else { Some(raw_message(document)?) };
        Ok(Self { message, ..stored })
    }

    pub(super) fn by_id<'a>(
        documents: impl IntoIterator<Item = &'a RawDocumentBuf>,
    ) -> Result<HashMap<MessageId, Self>, StoreError> {
        let parsed = documents
            .into_iter()
            .map(|document| Ok((MessageId::from(raw_uuid(document)?), Self::from_raw(document)?)));
        parsed.collect()
    }

    /// Returns the version that a remembered command made.
    pub(crate) fn version_made_by(&self, command: CommandId) -> Option<Version> {
        let command = bson_uuid(command);
        self.applied.iter().find(|entry| entry.command == command).map(|entry| entry.version)
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
