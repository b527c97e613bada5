//! Storing the messages of legacy documents. Each is stored as a create would store it, once: a message
//! that is there already, or was deleted, stays as it is.

use std::collections::HashMap;

use contracts::{CommandId, MessageId};
use mongodb::bson::{Binary, RawDocumentBuf, doc, spec::BinarySubtype};
use uuid::Uuid;

use super::{
    command::CreateCommand,
    create::{fingerprint, new_document},
};
use crate::{
    Store, StoreError,
    convert::{bson_uuids, raw_uuid},
    error::{DUPLICATE_KEY, insert_failures, is_permanent_code},
    legacy::LegacyMessage,
};

/// What became of a legacy document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportOutcome {
    /// The message is stored.
    Imported,
    /// An earlier import stored the message. It may have been edited or deleted since.
    AlreadyImported,
    /// The id is taken by a message that was created with another sender, recipient or content.
    Conflict,
    /// MongoDB refused the message, with this error code.
    Refused(i32),
}

impl Store {
    /// Stores the messages that are not stored yet. Returns one outcome for each, in their order. A dry
    /// run writes nothing, and returns what would happen.
    pub async fn import_many(
        &self,
        messages: &[LegacyMessage],
        dry_run: bool,
    ) -> Result<Vec<ImportOutcome>, StoreError> {
        let commands: Vec<CreateCommand> = messages.iter().map(create_command).collect();
        let stored = self.stored_fingerprints(&commands).await?;
        let mut outcomes: Vec<ImportOutcome> = (commands.iter())
            .map(|command| match stored.get(&command.message_id) {
                None => ImportOutcome::Imported,
                Some(Some(stored)) if *stored != fingerprint(command) => ImportOutcome::Conflict,
                Some(_) => ImportOutcome::AlreadyImported,
            })
            .collect();
        if dry_run {
            return Ok(outcomes);
        }
        let new: Vec<usize> =
            (0..messages.len()).filter(|at| outcomes[*at] == ImportOutcome::Imported).collect();
        let documents: Vec<RawDocumentBuf> = (new.iter())
            .map(|&at| new_document(&commands[at], messages[at].edit_timestamp))
            .collect();
        for (index, code) in self.insert_new(documents).await? {
            outcomes[new[index]] = match code {
                // Another import has stored it meanwhile.
                DUPLICATE_KEY => ImportOutcome::AlreadyImported,
                code => ImportOutcome::Refused(code),
            };
        }
        Ok(outcomes)
    }

    /// Inserts documents, and returns those that are not stored, by index, with MongoDB's codes.
    async fn insert_new(
        &self,
        documents: Vec<RawDocumentBuf>,
    ) -> Result<HashMap<usize, i32>, StoreError> {
        if documents.is_empty() {
            return Ok(HashMap::new());
        }
        let messages = self.messages.clone();
        let insert = async move {
            let inserted = messages.insert_many(documents).ordered(false).await;
            insert_failures(inserted, |code| code == DUPLICATE_KEY || is_permanent_code(code))
        };
        self.run(insert).await
    }

    /// Returns which of the messages are stored, with their fingerprints; a tombstone has none.
    async fn stored_fingerprints(
        &self,
        commands: &[CreateCommand],
    ) -> Result<HashMap<MessageId, Option<Binary>>, StoreError> {
        let ids = bson_uuids(commands.iter().map(|command| command.message_id));
        let find = self.find_all(&self.messages, move |messages| {
            let found = messages.find(doc! { "_id": { "$in": &ids[..] } });
            found.projection(doc! { "fingerprint": 1 })
        });
        let found = find.await?;
        let fingerprints = found.iter().map(|document| {
            let stored = document.get_binary("fingerprint").ok();
            let stored = stored.map(|stored| Binary {
                subtype: BinarySubtype::Generic,
                bytes: stored.bytes.to_vec(),
            });
            Ok((MessageId::from(raw_uuid(document)?), stored))
        });
        fingerprints.collect()
    }
}

/// Returns the create that would store the message. Its command id is the message id, which no gateway
/// generates for a command: by it, the message is known as imported.
fn create_command(message: &LegacyMessage) -> CreateCommand {
    CreateCommand {
        command_id: CommandId::from(Uuid::from(message.message_id)),
        message_id: message.message_id,
        from_user_id: message.from_user_id.clone(),
        to_user_id: message.to_user_id.clone(),
        content: message.content.clone(),
        publish_timestamp: message.publish_timestamp,
    }
}
