//! Storing new messages. The `_id` holds the rule: the message that is stored first stands.

use std::collections::HashMap;

use contracts::{Failure, MessageId, Outcome};
use mongodb::{
    bson::{Binary, spec::BinarySubtype},
    error::{Error, ErrorKind, IndexedWriteError},
};
use sha2::{Digest, Sha256};

use super::{
    command::CreateCommand,
    document::{MessageDocument, StoredDocument},
};
use crate::{
    Store, StoreError,
    convert::{bson_date, command_uuid, message_uuid},
    error::{DUPLICATE_KEY, is_duplicate_key, is_permanent_code},
};

impl Store {
    /// Stores a new message.
    pub async fn create(&self, command: &CreateCommand) -> Result<Outcome, StoreError> {
        let (messages, document) = (self.messages.clone(), new_document(command));
        let stored_now = self
            .run(async move {
                match messages.insert_one(document).await {
                    Ok(_) => Ok(true),
                    Err(error) if is_duplicate_key(&error) => Ok(false),
                    Err(error) => Err(error),
                }
            })
            .await?;
        if stored_now {
            return Ok(Outcome::Created);
        }
        outcome_of_duplicate(self.read_stored(command.message_id).await?, command)
    }

    /// Stores new messages in one operation. Returns one outcome for each command, in their order;
    /// `None` for a command that MongoDB refused, for which [`Store::create`] returns the error.
    pub async fn create_many(
        &self,
        commands: &[CreateCommand],
    ) -> Result<Vec<Option<Outcome>>, StoreError> {
        let documents: Vec<MessageDocument> = commands.iter().map(new_document).collect();
        let messages = self.messages.clone();
        let failed = self
            .run(async move {
                match messages.insert_many(documents).ordered(false).await {
                    Ok(_) => Ok(Vec::new()),
                    Err(error) => permanent_failures(error),
                }
            })
            .await?;
        let failures: HashMap<usize, i32> =
            failed.iter().map(|failure| (failure.index, failure.code)).collect();
        let duplicates: Vec<MessageId> = (commands.iter().enumerate())
            .filter(|(index, _)| failures.get(index) == Some(&DUPLICATE_KEY))
            .map(|(_, command)| command.message_id)
            .collect();
        let stored = self.read_stored_many(duplicates).await?;
        let outcomes =
            commands.iter().enumerate().map(|(index, command)| match failures.get(&index) {
                None => Ok(Some(Outcome::Created)),
                Some(&DUPLICATE_KEY) => {
                    outcome_of_duplicate(stored.get(&command.message_id).cloned(), command)
                        .map(Some)
                }
                Some(_) => Ok(None),
            });
        outcomes.collect()
    }
}

/// Returns the documents that an unordered insert could not store, for good; it stored all others. Any
/// other failure, a missing majority above all, leaves all of them open.
fn permanent_failures(error: Error) -> Result<Vec<IndexedWriteError>, Error> {
    if let ErrorKind::InsertMany(failure) = &*error.kind
        && failure.write_concern_error.is_none()
    {
        let failed = failure.write_errors.clone().unwrap_or_default();
        let permanent = |code: i32| code == DUPLICATE_KEY || is_permanent_code(code);
        if failed.iter().all(|write_error| permanent(write_error.code)) {
            return Ok(failed);
        }
    }
    Err(error)
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
        fingerprint: fingerprint(command),
        applied: Vec::new(),
    }
}

/// Returns the outcome of a create whose `_id` is taken by this document.
fn outcome_of_duplicate(
    stored: Option<StoredDocument>,
    command: &CreateCommand,
) -> Result<Outcome, StoreError> {
    // A tombstone may expire between the insert and the read.
    let stored = stored.ok_or(StoreError::Contended)?;
    // Also if the message was deleted since: the command took effect, and does so once.
    if stored.created_by() == command_uuid(command.command_id) {
        return Ok(Outcome::Created);
    }
    Ok(match stored {
        StoredDocument::Tombstone(_) => Outcome::Failed(Failure::DeletedSince),
        StoredDocument::Message(message) if message.fingerprint == fingerprint(command) => {
            Outcome::Replayed(message.into_versioned()?)
        }
        StoredDocument::Message(_) => Outcome::Failed(Failure::KeyReused),
    })
}

fn fingerprint(command: &CreateCommand) -> Binary {
    let CreateCommand { from_user_id, to_user_id, content, .. } = command;
    let mut hasher = Sha256::new();
    for part in [from_user_id.as_str(), to_user_id.as_str(), content.as_str()] {
        // The length keeps ("ab", "c") apart from ("a", "bc").
        hasher.update(part.len().to_be_bytes());
        hasher.update(part);
    }
    Binary { subtype: BinarySubtype::Generic, bytes: hasher.finalize().to_vec() }
}

#[cfg(test)]
mod tests {
    use contracts::{CommandId, Timestamp};

    use super::*;

    #[test]
    fn a_fingerprint_tells_where_the_parts_end() {
        let of = |from: &str, to: &str, content: &str| {
            fingerprint(&CreateCommand {
                command_id: CommandId::generate(),
                message_id: MessageId::generate(),
                from_user_id: from.to_owned().try_into().unwrap(),
                to_user_id: to.to_owned().try_into().unwrap(),
                content: content.to_owned().try_into().unwrap(),
                publish_timestamp: Timestamp::now(),
            })
        };
        assert_eq!(of("a", "b", "c"), of("a", "b", "c"));
        assert_ne!(of("a", "b", "c"), of("ab", "c", "c"));
        assert_ne!(of("a", "bc", "d"), of("ab", "c", "d"));
    }
}
