//! Many edits and deletions in two operations: an update with a statement for each, and a read
//! that tells what each of them met. Every statement is the single-document operation that
//! [`Store::edit`] and [`Store::delete`] would run, with the same filter.

use std::collections::HashMap;

use contracts::{MessageId, Outcome};
use futures_util::TryStreamExt;
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};

use crate::{
    DeleteCommand, EditCommand, Store, StoreError,
    documents::{StoredDocument, message_uuid},
    writes::{
        by_id, delete_filter, edit_filter, edit_update, not_deleted, not_edited, tombstone_update,
    },
};

/// Statements in one command, which is 16 MiB at most; a statement is some 17 kB.
const MAX_STATEMENTS: usize = 500;

/// Change a stored message.
#[derive(Clone, Debug)]
pub enum UpdateCommand {
    /// Replace its content.
    Edit(EditCommand),
    /// Replace it by a tombstone.
    Delete(DeleteCommand),
}

impl Store {
    /// Applies changes to different messages. The results stand in the commands' order; there is
    /// none where a change has to be tried by itself, because its message changed at the same time
    /// or because MongoDB refuses it.
    pub async fn bulk_write(
        &self,
        commands: &[UpdateCommand],
    ) -> Result<Vec<Option<Outcome>>, StoreError> {
        let mut results = Vec::with_capacity(commands.len());
        for chunk in commands.chunks(MAX_STATEMENTS) {
            let Some(mut existing) = self.update_and_read(chunk).await? else {
                results.extend(chunk.iter().map(|_| Some(Outcome::Deleted)));
                continue;
            };
            for command in chunk {
                let met = existing.remove(&command.message_id());
                results.push(match command {
                    UpdateCommand::Edit(edit) => not_edited(met, edit)?,
                    UpdateCommand::Delete(delete) => not_deleted(met, delete),
                });
            }
        }
        Ok(results)
    }

    /// Which statements applied is read off the documents: one that MongoDB refused applied as
    /// little as one whose filter matched nothing. There is nothing to read, and `None` is answered,
    /// where all were deletions and as many documents changed.
    async fn update_and_read(
        &self,
        commands: &[UpdateCommand],
    ) -> Result<Option<HashMap<MessageId, StoredDocument>>, StoreError> {
        // The driver has no such call for the servers that this runs on, and adds no write concern
        // to a command of one's own.
        let update = doc! {
            "update": self.messages.name(),
            "updates": commands.iter().map(statement).collect::<Vec<Bson>>(),
            "ordered": false,
            "writeConcern": { "w": "majority", "j": true },
        };
        let ids: Vec<Bson> =
            commands.iter().map(|command| message_uuid(command.message_id()).into()).collect();
        // One more than there can be, so that the first answer is known to be the last.
        let batch_size = u32::try_from(ids.len() + 1).unwrap_or(u32::MAX);
        let only_deletions =
            commands.iter().all(|command| matches!(command, UpdateCommand::Delete(_)));
        let deletions = only_deletions.then_some(ids.len());
        let (database, stored) = (self.database().clone(), self.stored.clone());
        let (answer, documents) = self
            .run(async move {
                // In one session, so that the read sees the update also where another server has
                // become the primary between them.
                let mut session =
                    database.client().start_session().causal_consistency(true).await?;
                let answer = database.run_command(update).session(&mut session).await?;
                if deletions.is_some() && changed(&answer) == deletions {
                    return Ok((answer, None));
                }
                let mut found = stored
                    .find(doc! { "_id": { "$in": ids } })
                    .batch_size(batch_size)
                    .session(&mut session)
                    .await?;
                let documents: Vec<RawDocumentBuf> =
                    found.stream(&mut session).try_collect().await?;
                Ok((answer, Some(documents)))
            })
            .await?;
        match answer.get("writeConcernError") {
            None => documents.map(by_id).transpose(),
            Some(error) => Err(StoreError::Unconfirmed(error.to_string())),
        }
    }
}

/// How many documents an update says it changed.
fn changed(answer: &Document) -> Option<usize> {
    match answer.get("nModified")? {
        Bson::Int32(count) => usize::try_from(*count).ok(),
        Bson::Int64(count) => usize::try_from(*count).ok(),
        _ => None,
    }
}

fn statement(command: &UpdateCommand) -> Bson {
    let (filter, update) = match command {
        UpdateCommand::Edit(edit) => (edit_filter(edit), edit_update(edit)),
        UpdateCommand::Delete(delete) => (delete_filter(delete), tombstone_update(delete)),
    };
    // The hint spares MongoDB the planning: it would weigh the other indexes for each statement.
    Bson::from(doc! { "q": filter, "u": [update], "hint": "_id_" })
}

impl UpdateCommand {
    /// The message to change.
    #[must_use]
    pub fn message_id(&self) -> MessageId {
        match self {
            Self::Edit(edit) => edit.message_id,
            Self::Delete(delete) => delete.message_id,
        }
    }
}
