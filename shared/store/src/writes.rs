//! Applying commands. Each is one single-document operation whose filter holds the rule; where it
//! matches nothing, the document is read to tell why.

use std::collections::HashMap;

use contracts::{
    CommandId, Content, Failure, MessageId, Outcome, Timestamp, UserId, Version, VersionedMessage,
};
use futures_util::TryStreamExt;
use mongodb::{
    bson::{Bson, DateTime, Document, RawDocumentBuf, doc},
    error::{Error, ErrorKind, IndexedWriteError},
    options::ReturnDocument,
};

use crate::{
    Store, StoreError,
    client::{DUPLICATE_KEY, is_permanent_code},
    documents::{
        MessageDocument, StoredDocument, applied_version, bson_date, command_uuid, fingerprint,
        from_bson_uuid, message_uuid,
    },
};

/// How many of the commands that changed a message it remembers.
pub(crate) const REMEMBERED_COMMANDS: i32 = 32;

/// How often a write is tried whose document keeps changing between write and read.
const MAX_ATTEMPTS: usize = 16;

/// Store a new message.
#[derive(Clone, Debug)]
pub struct CreateCommand {
    /// The command's id.
    pub command_id: CommandId,
    /// The new message's id.
    pub message_id: MessageId,
    /// Who wrote it.
    pub from_user_id: UserId,
    /// Whom it is for.
    pub to_user_id: UserId,
    /// What it says.
    pub content: Content,
    /// When the gateway took it.
    pub publish_timestamp: Timestamp,
}

/// Replace a message's content.
#[derive(Clone, Debug)]
pub struct EditCommand {
    /// The command's id.
    pub command_id: CommandId,
    /// The message to change.
    pub message_id: MessageId,
    /// The new content.
    pub content: Content,
    /// Its timestamp; with `if_match` it may be stored later than this.
    pub edit_timestamp: Timestamp,
    /// Apply only to this version.
    pub if_match: Option<Version>,
}

/// Replace a message by a tombstone.
#[derive(Clone, Debug)]
pub struct DeleteCommand {
    /// The command's id.
    pub command_id: CommandId,
    /// The message to delete.
    pub message_id: MessageId,
    /// Apply only to this version.
    pub if_match: Option<Version>,
}

/// The server will not store this document, however often it is asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("MongoDB refuses the document: {message} (code {code})")]
pub struct Rejected {
    /// MongoDB's error code.
    pub code: i32,
    /// MongoDB's words.
    pub message: String,
}

impl Store {
    /// Stores new messages, all in one operation. The results stand in the commands' order.
    pub async fn create_many(
        &self,
        commands: &[CreateCommand],
    ) -> Result<Vec<Result<Outcome, Rejected>>, StoreError> {
        let documents: Vec<MessageDocument> = commands.iter().map(new_document).collect();
        let messages = self.messages.clone();
        let inserted = self
            .run(async move {
                match messages.insert_many(documents).ordered(false).await {
                    Ok(_) => Ok(Vec::new()),
                    Err(error) => refused_documents(error),
                }
            })
            .await?;
        let mut results = vec![Ok(Outcome::Created); commands.len()];
        let mut duplicates = Vec::new();
        for error in inserted {
            if error.code == DUPLICATE_KEY {
                duplicates.push(error.index);
            } else if let Some(result) = results.get_mut(error.index) {
                *result = Err(Rejected { code: error.code, message: error.message });
            }
        }
        if duplicates.is_empty() {
            return Ok(results);
        }
        let ids = duplicates.iter().filter_map(|&index| commands.get(index));
        let existing = self.read_stored(ids.map(|command| command.message_id)).await?;
        for index in duplicates {
            if let (Some(command), Some(result)) = (commands.get(index), results.get_mut(index)) {
                // A tombstone may expire between the insert and this read.
                let document = existing.get(&command.message_id).ok_or(StoreError::Contended)?;
                *result = Ok(met_on_create(document.clone(), command)?);
            }
        }
        Ok(results)
    }

    /// Applies an edit.
    pub async fn edit(&self, command: &EditCommand) -> Result<Outcome, StoreError> {
        for _ in 0..MAX_ATTEMPTS {
            let (filter, update) = (edit_filter(command), edit_update(command));
            let messages = self.messages.clone();
            let edited = self
                .run(async move {
                    messages
                        .find_one_and_update(filter, vec![update])
                        .return_document(ReturnDocument::After)
                        .await
                })
                .await?;
            if let Some(document) = edited {
                return Ok(Outcome::Edited(document.into_versioned()?));
            }
            let existing = self.read_one(command.message_id).await?;
            if let Some(result) = not_edited(existing, command)? {
                return Ok(result);
            }
        }
        Err(StoreError::Contended)
    }

    /// Applies a deletion.
    pub async fn delete(&self, command: &DeleteCommand) -> Result<Outcome, StoreError> {
        for _ in 0..MAX_ATTEMPTS {
            let (filter, update) = (delete_filter(command), tombstone_update(command));
            let messages = self.messages.clone();
            let deleted =
                self.run(async move { messages.update_one(filter, vec![update]).await }).await?;
            if deleted.matched_count == 1 {
                return Ok(Outcome::Deleted);
            }
            let existing = self.read_one(command.message_id).await?;
            if let Some(result) = not_deleted(existing, command) {
                return Ok(result);
            }
        }
        Err(StoreError::Contended)
    }

    pub(crate) async fn read_one(
        &self,
        id: MessageId,
    ) -> Result<Option<StoredDocument>, StoreError> {
        let stored = self.stored.clone();
        let found = self
            .run(async move { stored.find_one(doc! { "_id": message_uuid(id) }).await })
            .await?;
        found.as_deref().map(StoredDocument::from_raw).transpose()
    }

    async fn read_stored(
        &self,
        ids: impl Iterator<Item = MessageId>,
    ) -> Result<HashMap<MessageId, StoredDocument>, StoreError> {
        let ids: Vec<Bson> = ids.map(|id| Bson::from(message_uuid(id))).collect();
        let stored = self.stored.clone();
        let documents: Vec<RawDocumentBuf> =
            self.run(async move {
                stored.find(doc! { "_id": { "$in": ids } }).await?.try_collect().await
            })
            .await?;
        by_id(documents)
    }
}

pub(crate) fn by_id(
    documents: Vec<RawDocumentBuf>,
) -> Result<HashMap<MessageId, StoredDocument>, StoreError> {
    let mut by_id = HashMap::with_capacity(documents.len());
    for document in documents {
        let document = StoredDocument::from_raw(&document)?;
        by_id.insert(MessageId::from(from_bson_uuid(document.id())), document);
    }
    Ok(by_id)
}

/// The documents that an unordered insert could not store, for good; all others are stored. Any
/// other failure, a missing majority above all, leaves everything open.
fn refused_documents(error: Error) -> Result<Vec<IndexedWriteError>, Error> {
    match &*error.kind {
        ErrorKind::InsertMany(failure) if failure.write_concern_error.is_none() => {
            let refused = failure.write_errors.clone().unwrap_or_default();
            let for_good = |code: i32| code == DUPLICATE_KEY || is_permanent_code(code);
            if refused.iter().all(|write_error| for_good(write_error.code)) {
                Ok(refused)
            } else {
                Err(error)
            }
        }
        _ => Err(error),
    }
}

fn new_document(command: &CreateCommand) -> MessageDocument {
    MessageDocument {
        id: message_uuid(command.message_id),
        from_user_id: command.from_user_id.as_str().to_owned(),
        to_user_id: command.to_user_id.as_str().to_owned(),
        content: command.content.as_str().to_owned(),
        publish_timestamp: bson_date(command.publish_timestamp),
        edit_timestamp: None,
        version: 1,
        created_by: command_uuid(command.command_id),
        fingerprint: command_fingerprint(command),
        applied: Vec::new(),
    }
}

fn command_fingerprint(command: &CreateCommand) -> mongodb::bson::Binary {
    fingerprint(&command.from_user_id, &command.to_user_id, &command.content)
}

/// What a create means that met a document with its `_id`.
fn met_on_create(existing: StoredDocument, command: &CreateCommand) -> Result<Outcome, StoreError> {
    let by_this_command = command_uuid(command.command_id);
    Ok(match existing {
        StoredDocument::Message(message) if message.created_by == by_this_command => {
            Outcome::Created
        }
        // Delivered again after a deletion: it had its effect, and has it no second time.
        StoredDocument::Tombstone(tombstone) if tombstone.created_by == by_this_command => {
            Outcome::Created
        }
        StoredDocument::Tombstone(_) => Outcome::Failed(Failure::DeletedSince),
        StoredDocument::Message(message) if message.fingerprint == command_fingerprint(command) => {
            Outcome::Replayed(message.into_versioned()?)
        }
        StoredDocument::Message(_) => Outcome::Failed(Failure::KeyReused),
    })
}

/// The documents that an edit applies to: with `if_match` those of that version, else those that
/// changed before it (by timestamp, then by command id).
pub(crate) fn edit_filter(command: &EditCommand) -> Document {
    let mut filter = live(command.message_id);
    if let Some(version) = command.if_match {
        filter.insert("version", bson_version(version));
        return filter;
    }
    let edited_at = bson_date(command.edit_timestamp);
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

pub(crate) fn edit_update(command: &EditCommand) -> Document {
    let edited_at = Bson::from(bson_date(command.edit_timestamp));
    let edited_at = if command.if_match.is_some() {
        // The version decides here, and still the timestamp must not run backwards.
        let changed_at = doc! { "$ifNull": ["$edit_timestamp", "$publish_timestamp"] };
        Bson::from(doc! { "$max": [edited_at, { "$add": [changed_at, 1_i64] }] })
    } else {
        edited_at
    };
    let next_version = doc! { "$add": ["$version", 1_i64] };
    doc! { "$set": {
        // Literally: a content may look like an expression.
        "content": { "$literal": command.content.as_str() },
        "edit_timestamp": edited_at,
        "version": next_version.clone(),
        "applied": remember(command.command_id, next_version.into(), "$applied".into()),
    } }
}

/// The documents that a deletion applies to.
pub(crate) fn delete_filter(command: &DeleteCommand) -> Document {
    let mut filter = live(command.message_id);
    if let Some(version) = command.if_match {
        filter.insert("version", bson_version(version));
    }
    filter
}

pub(crate) fn tombstone_update(command: &DeleteCommand) -> Document {
    // What something else has damaged can still be deleted.
    let earlier = doc! { "$cond": [{ "$isArray": "$applied" }, "$applied", []] };
    doc! { "$replaceWith": {
        "_id": "$_id",
        "deleted_at": "$$NOW",
        "created_by": "$created_by",
        "applied": remember(command.command_id, "$version".into(), earlier.into()),
    } }
}

/// The list of remembered commands with this one in front of the earlier ones.
fn remember(command: CommandId, version: Bson, earlier: Bson) -> Document {
    let entry = doc! { "command": command_uuid(command), "version": version };
    doc! { "$slice": [{ "$concatArrays": [[entry], earlier] }, REMEMBERED_COMMANDS] }
}

/// Why an edit's filter matched nothing; `None` where it would match now.
pub(crate) fn not_edited(
    existing: Option<StoredDocument>,
    command: &EditCommand,
) -> Result<Option<Outcome>, StoreError> {
    let message = match existing {
        None => return Ok(Some(Outcome::Failed(Failure::NotFound))),
        Some(StoredDocument::Tombstone(tombstone)) => {
            let applied = applied_version(&tombstone.applied, command.command_id);
            return Ok(Some(match applied.map(Version::try_from) {
                Some(Ok(version)) => Outcome::EditedThenDeleted { version },
                _ => Outcome::Failed(Failure::NotFound),
            }));
        }
        Some(StoredDocument::Message(message)) => message,
    };
    if let Some(version) = applied_version(&message.applied, command.command_id) {
        return Ok(Some(Outcome::Edited(as_edited(*message, version, command)?)));
    }
    match command.if_match {
        Some(version) if message.version == bson_version(version) => Ok(None),
        Some(_) => Ok(Some(Outcome::Failed(Failure::VersionMismatch))),
        None if is_newer(command, &message) => Ok(None),
        None => Ok(Some(Outcome::Superseded(message.into_versioned()?))),
    }
}

/// The message as this edit made it. Where others have come after it, their version would be a
/// validator for content that its client has never seen.
fn as_edited(
    message: MessageDocument,
    version: i64,
    command: &EditCommand,
) -> Result<VersionedMessage, StoreError> {
    let newest = message.version == version;
    let mut edited = message.into_versioned()?;
    if !newest {
        edited.version = Version::try_from(version)
            .map_err(|error| StoreError::Unreadable(error.to_string()))?;
        edited.message.content = command.content.clone();
        edited.message.edit_timestamp = Some(command.edit_timestamp);
    }
    Ok(edited)
}

/// The rule of [`edit_filter`] for edits without `if_match`.
fn is_newer(command: &EditCommand, message: &MessageDocument) -> bool {
    let edited_at: DateTime = bson_date(command.edit_timestamp);
    let last_command = message.applied.first().map(|entry| entry.command.bytes());
    let command_id = command_uuid(command.command_id).bytes();
    edited_at > message.changed_at()
        || (message.edit_timestamp == Some(edited_at)
            && last_command.is_some_and(|last| last < command_id))
}

/// Why a deletion's filter matched nothing; `None` where it would match now.
pub(crate) fn not_deleted(
    existing: Option<StoredDocument>,
    command: &DeleteCommand,
) -> Option<Outcome> {
    match existing {
        None => Some(Outcome::Failed(Failure::NotFound)),
        Some(StoredDocument::Tombstone(tombstone)) => {
            let by_this_command = applied_version(&tombstone.applied, command.command_id).is_some();
            Some(if by_this_command {
                Outcome::Deleted
            } else {
                Outcome::Failed(Failure::NotFound)
            })
        }
        Some(StoredDocument::Message(message)) => match command.if_match {
            Some(version) if message.version != bson_version(version) => {
                Some(Outcome::Failed(Failure::VersionMismatch))
            }
            _ => None,
        },
    }
}

/// The message with this id, unless it is deleted.
fn live(id: MessageId) -> Document {
    doc! { "_id": message_uuid(id), "deleted_at": { "$exists": false } }
}

/// Versions count edits: none gets near the end of 63 bits. One that a client made up matches none.
fn bson_version(version: Version) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}
