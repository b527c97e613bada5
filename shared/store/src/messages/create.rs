//! Storing new messages. The `_id` holds the rule: the message that is stored first stands.

use contracts::{Failure, MessageId, Outcome, Timestamp, UserId};
use mongodb::bson::{Binary, RawBson, RawDocumentBuf, rawdoc, spec::BinarySubtype};
use sha2::{Digest, Sha256};

use super::{command::CreateCommand, document::StoredDocument};
use crate::{
    Store, StoreError,
    convert::{bson_date, bson_uuid},
    error::{DUPLICATE_KEY, insert_failures, is_duplicate_key, is_permanent_code},
};

impl Store {
    /// Stores a new message.
    pub async fn create(&self, command: &CreateCommand) -> Result<Outcome, StoreError> {
        let (messages, document) = (self.messages.clone(), new_document(command, None));
        let session = self.session();
        let insert = async move {
            match messages.insert_one(document).session(&mut *session.await?).await {
                Ok(_) => Ok(true),
                Err(error) if is_duplicate_key(&error) => Ok(false),
                Err(error) => Err(error),
            }
        };
        if self.run(insert).await? {
            return Ok(Outcome::Created);
        }
        let id = command.message_id;
        outcome_of_duplicate(self.read_stored(vec![id]).await?.remove(&id), command)
    }

    /// Stores new messages in one operation. Returns one outcome for each command, in their order;
    /// `None` for a command that MongoDB refused, for which [`Store::create`] returns the error.
    pub async fn create_many(
        &self,
        commands: &[CreateCommand],
    ) -> Result<Vec<Option<Outcome>>, StoreError> {
        let documents: Vec<RawDocumentBuf> =
            (commands.iter()).map(|command| new_document(command, None)).collect();
        let (messages, session) = (self.messages.clone(), self.session());
        let insert = async move {
            let mut session = session.await?;
            let inserting = messages.insert_many(documents).ordered(false);
            let inserted = inserting.session(&mut *session).await;
            insert_failures(inserted, |code| code == DUPLICATE_KEY || is_permanent_code(code))
        };
        let failures = self.run(insert).await?;
        let duplicates: Vec<MessageId> = (commands.iter().enumerate())
            .filter(|(index, _)| failures.get(index) == Some(&DUPLICATE_KEY))
            .map(|(_, command)| command.message_id)
            .collect();
        let stored = self.read_stored(duplicates).await?;
        let outcome = |(index, command): (usize, &CreateCommand)| match failures.get(&index) {
            None => Ok(Some(Outcome::Created)),
            Some(&DUPLICATE_KEY) => {
                outcome_of_duplicate(stored.get(&command.message_id).cloned(), command).map(Some)
            }
            Some(_) => Ok(None),
        };
        commands.iter().enumerate().map(outcome).collect()
    }
}

/// Returns the document of a new message. Only an import stores one that was edited before.
pub(crate) fn new_document(
    command: &CreateCommand,
    edit_timestamp: Option<Timestamp>,
) -> RawDocumentBuf {
    rawdoc! {
        "_id": Binary::from(bson_uuid(command.message_id)),
        "from_user_id": command.from_user_id.as_str(),
        "to_user_id": command.to_user_id.as_str(),
        "content": command.content.as_str(),
        "publish_timestamp": bson_date(command.publish_timestamp),
        "edit_timestamp": edit_timestamp.map_or(RawBson::Null, |edited| bson_date(edited).into()),
        "version": 1_i64,
        "created_by": Binary::from(bson_uuid(command.command_id)),
        "fingerprint": fingerprint(command),
        "applied": [],
    }
}

/// Returns the outcome of a create whose `_id` is taken by this document.
fn outcome_of_duplicate(
    stored: Option<StoredDocument>,
    command: &CreateCommand,
) -> Result<Outcome, StoreError> {
    // A tombstone may expire between the insert and the read.
    let stored = stored.ok_or(StoreError::Contended)?;
    // Its id is the other sender's, who alone may know what became of the message.
    let is_other = |sender: &UserId| *sender != command.from_user_id;
    if stored.participants.from.as_ref().is_some_and(is_other) {
        return Ok(Outcome::Failed(Failure::KeyReused));
    }
    // Also if the message was deleted since: the command took effect, and does so once.
    if stored.created_by == command.command_id {
        return Ok(Outcome::Created);
    }
    let repeated = stored.fingerprint == Some(fingerprint(command));
    Ok(match stored.message {
        None => Outcome::Failed(Failure::DeletedSince),
        Some(message) if repeated => Outcome::Replayed(message),
        Some(_) => Outcome::Failed(Failure::KeyReused),
    })
}

pub(super) fn fingerprint(command: &CreateCommand) -> Binary {
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
