//! Documents of the collection `messages`, and their way to the wire types.

use contracts::{CommandId, Message, MessageId, UserId, Version, VersionedMessage};
use mongodb::bson::{Binary, RawBsonRef, RawDocument};

use crate::{
    convert::{from_bson_date, raw_uuid, to_uuid, unreadable},
    error::StoreError,
};

/// Number of commands that a message remembers of those that changed it.
pub(crate) const REMEMBERED_COMMANDS: i32 = 32;

/// What stands under the id of a message.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// A message or its tombstone.
    Stored(Box<StoredDocument>),
    /// A message or tombstone that cannot be read. A message can still be deleted.
    Damaged {
        /// Tells that it is a tombstone.
        deleted: bool,
        /// Version of the message, if that can be read.
        version: Option<Version>,
        /// Tells whether an import stored the message.
        imported: bool,
        /// Sender and recipient.
        participants: Participants,
        /// The reason why it cannot be read.
        error: StoreError,
    },
}

/// A message or its tombstone, which has enough of it to stop every command that would bring it back.
#[derive(Clone, Debug)]
pub(crate) struct StoredDocument {
    /// The message; `None` in a tombstone.
    pub(crate) message: Option<VersionedMessage>,
    /// Sender and recipient, also of a deleted message.
    pub(crate) participants: Participants,
    /// The command that created the message.
    pub(crate) created_by: CommandId,
    /// Tells whether an import stored the message.
    pub(crate) imported: bool,
    /// SHA-256 of sender, recipient and content as created. It tells a repeat of an idempotency key
    /// from its reuse, also after edits. A tombstone has none.
    pub(crate) fingerprint: Option<Binary>,
    /// The newest commands that changed the message, newest first.
    pub(crate) applied: Vec<AppliedCommand>,
}

/// Sender and recipient of a message, as far as they can be read. A tombstone of release 0.1 does not tell them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Participants {
    pub(crate) from: Option<UserId>,
    pub(crate) to: Option<UserId>,
}

/// A command that changed a message, and the version that it made. In a tombstone of format 1, the version of the
/// deletion is the one that it met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AppliedCommand {
    pub(crate) command: CommandId,
    pub(crate) version: Version,
}

impl Found {
    /// Reads a document that has a `created_by`.
    pub(super) fn read(document: &RawDocument) -> Self {
        match StoredDocument::from_raw(document) {
            Ok(stored) => Self::Stored(Box::new(stored)),
            Err(error) => {
                let version = document.get_i64("version").ok();
                Self::Damaged {
                    deleted: is_deleted(document),
                    version: version.and_then(|version| version.try_into().ok()),
                    imported: is_imported(document),
                    participants: Participants::read(document),
                    error,
                }
            }
        }
    }

    pub(crate) fn is_deleted(&self) -> bool {
        match self {
            Self::Stored(stored) => stored.message.is_none(),
            Self::Damaged { deleted, .. } => *deleted,
        }
    }

    pub(crate) fn is_damaged(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }

    pub(crate) fn participants(&self) -> &Participants {
        match self {
            Self::Stored(stored) => &stored.participants,
            Self::Damaged { participants, .. } => participants,
        }
    }

    /// Returns the document, or the reason why it cannot be read.
    pub(crate) fn stored(self) -> Result<StoredDocument, StoreError> {
        match self {
            Self::Stored(stored) => Ok(*stored),
            Self::Damaged { error, .. } => Err(error),
        }
    }
}

impl StoredDocument {
    pub(crate) fn from_raw(document: &RawDocument) -> Result<Self, StoreError> {
        let field = |name| document.get(name).map_err(unreadable);
        let message = if is_deleted(document) { None } else { Some(raw_message(document)?) };
        let created_by = field("created_by")?.and_then(to_uuid);
        Ok(Self {
            message,
            participants: Participants::read(document),
            created_by: created_by.ok_or_else(|| unreadable("created_by is no UUID"))?.into(),
            imported: is_imported(document),
            fingerprint: field("fingerprint")?.and_then(|fingerprint| match fingerprint {
                RawBsonRef::Binary(binary) => Some(binary.to_binary()),
                _ => None,
            }),
            applied: applied_commands(document)?,
        })
    }

    /// Returns the version that a remembered command made.
    pub(crate) fn version_made_by(&self, command: CommandId) -> Option<Version> {
        self.applied.iter().find(|entry| entry.command == command).map(|entry| entry.version)
    }
}

impl Participants {
    /// Reads them from a message or a tombstone.
    pub(super) fn read(document: &RawDocument) -> Self {
        let user = |text: Result<&str, _>| UserId::try_from(text.ok()?.to_owned()).ok();
        if !is_deleted(document) {
            let (from, to) = (document.get_str("from_user_id"), document.get_str("to_user_id"));
            return Self { from: user(from), to: user(to) };
        }
        let Ok(users) = document.get_document("participants") else { return Self::default() };
        Self { from: user(users.get_str("from")), to: user(users.get_str("to")) }
    }
}

/// Reads the remembered commands. Each raises the version by one, so its place tells the version that it made. In format
/// 1, deletions did not; each entry there has its version, and edits in format 2 stand before such entries.
pub(super) fn applied_commands(document: &RawDocument) -> Result<Vec<AppliedCommand>, StoreError> {
    let version = document.get_i64("version").ok();
    let mut applied = Vec::new();
    for (entry, made_before) in
        document.get_array("applied").map_err(unreadable)?.into_iter().zip(0..)
    {
        let made = match entry.map_err(unreadable)? {
            RawBsonRef::Document(entry) => {
                let command = entry.get("command").ok().flatten().and_then(to_uuid);
                command.zip(entry.get_i64("version").ok())
            }
            entry => to_uuid(entry).zip(version.map(|version| version.saturating_sub(made_before))),
        };
        // What is no command does not keep the others from being known.
        if let Some((command, version)) = made
            && let Ok(version) = version.try_into()
        {
            applied.push(AppliedCommand { command: command.into(), version });
        }
    }
    Ok(applied)
}

/// Only a tombstone has this field.
pub(super) fn is_deleted(document: &RawDocument) -> bool {
    matches!(document.get("deleted_at"), Ok(Some(_)))
}

/// An import stores a message as if created by a command that has the message's id.
fn is_imported(document: &RawDocument) -> bool {
    let id = |name| document.get(name).ok().flatten().and_then(to_uuid);
    id("_id").is_some_and(|message| id("created_by") == Some(message))
}

/// Reads a message without serde, which takes several times as long. A page has many.
pub(crate) fn raw_message(document: &RawDocument) -> Result<VersionedMessage, StoreError> {
    let (mut from, mut to, mut content) = (None, None, None);
    let (mut published, mut edited, mut version) = (None, None, None);
    let mut created = false;
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
            ("created_by", _) => created = true,
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
    if !created {
        return Err(damaged("created_by")());
    }
    Ok(VersionedMessage { message, version: Version::try_from(version).map_err(unreadable)? })
}
