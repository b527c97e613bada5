//! The rule of edits. Without `if_match` the newer edit stands, by timestamp and then by command id;
//! with `if_match` the version decides.

use contracts::{Content, Failure, Outcome, Timestamp, Version, VersionedMessage};
use mongodb::bson::{Bson, Document, doc};

use super::{
    command::UpdateCommand,
    document::{MessageDocument, StoredDocument},
    expressions::{bson_version, live, remember},
};
use crate::{
    StoreError,
    convert::{bson_date, command_uuid, unreadable},
};

/// Returns the filter of the documents that the edit applies to.
pub(super) fn filter(command: &UpdateCommand, edit_timestamp: Timestamp) -> Document {
    let mut filter = live(command.message_id);
    if let Some(version) = command.if_match {
        filter.insert("version", bson_version(version));
        return filter;
    }
    let edited_at = bson_date(edit_timestamp);
    filter.insert("publish_timestamp", doc! { "$lt": edited_at });
    filter.insert(
        "$or",
        vec![
            doc! { "edit_timestamp": null },
            doc! { "edit_timestamp": { "$lt": edited_at } },
            doc! {
                "edit_timestamp": edited_at,
                "applied.0.command": { "$lt": command_uuid(command.command_id) },
            },
        ],
    );
    filter
}

/// Returns the stage that edits a document.
pub(super) fn stage(
    command: &UpdateCommand,
    content: &Content,
    edit_timestamp: Timestamp,
) -> Document {
    let edited_at = Bson::from(bson_date(edit_timestamp));
    let edited_at = if command.if_match.is_some() {
        // The version decides here, but the timestamp must not run backwards either.
        let changed_at = doc! { "$ifNull": ["$edit_timestamp", "$publish_timestamp"] };
        Bson::from(doc! { "$max": [edited_at, { "$add": [changed_at, 1_i64] }] })
    } else {
        edited_at
    };
    let next_version = doc! { "$add": ["$version", 1_i64] };
    doc! { "$set": {
        // Literally: a content may look like an expression.
        "content": { "$literal": content.as_str() },
        "edit_timestamp": edited_at,
        "version": next_version.clone(),
        "applied": remember(command.command_id, next_version.into(), "$applied".into()),
    } }
}

/// Returns the outcome of an edit whose message is stored like this; `None` if its filter matches now.
pub(super) fn outcome(
    command: &UpdateCommand,
    content: &Content,
    edit_timestamp: Timestamp,
    stored: Option<StoredDocument>,
) -> Result<Option<Outcome>, StoreError> {
    let Some(stored) = stored else { return Ok(Some(Outcome::Failed(Failure::NotFound))) };
    let applied = stored.version_made_by(command.command_id);
    let message = match stored {
        StoredDocument::Message(message) => *message,
        StoredDocument::Tombstone(_) => {
            return Ok(Some(match applied.map(Version::try_from) {
                Some(Ok(version)) => Outcome::EditedThenDeleted { version },
                _ => Outcome::Failed(Failure::NotFound),
            }));
        }
    };
    if let Some(version) = applied {
        let edited = as_edited(message, version, content, edit_timestamp)?;
        return Ok(Some(Outcome::Edited(edited)));
    }
    match command.if_match {
        Some(version) if message.version == bson_version(version) => Ok(None),
        Some(_) => Ok(Some(Outcome::Failed(Failure::VersionMismatch))),
        None if is_newer(command, edit_timestamp, &message) => Ok(None),
        None => Ok(Some(Outcome::Superseded(message.into_versioned()?))),
    }
}

/// Returns the message as this edit made it. If others came after it, their version would be a
/// validator for content that the edit's client has never seen.
fn as_edited(
    message: MessageDocument,
    version: i64,
    content: &Content,
    edit_timestamp: Timestamp,
) -> Result<VersionedMessage, StoreError> {
    let newest = message.version == version;
    let mut edited = message.into_versioned()?;
    if !newest {
        edited.version = Version::try_from(version).map_err(unreadable)?;
        edited.message.content = content.clone();
        edited.message.edit_timestamp = Some(edit_timestamp);
    }
    Ok(edited)
}

/// Applies the rule of [`filter`] for edits without `if_match`.
fn is_newer(command: &UpdateCommand, edit_timestamp: Timestamp, message: &MessageDocument) -> bool {
    let edited_at = bson_date(edit_timestamp);
    let last_command = message.applied.first().map(|entry| entry.command.bytes());
    let command_id = command_uuid(command.command_id).bytes();
    edited_at > message.changed_at()
        || (message.edit_timestamp == Some(edited_at)
            && last_command.is_some_and(|last| last < command_id))
}
