//! Many edits and deletions in two operations: an update with a statement for each, and a read
//! that tells what each of them met. Every statement is the single-document operation that
//! [`Store::edit`] and [`Store::delete`] would run, with the same filter.

use contracts::{CommandResult, MessageId};
use mongodb::bson::{Bson, doc};

use crate::{
    DeleteCommand, EditCommand, Store, StoreError,
    writes::{delete_filter, edit_filter, edit_update, not_deleted, not_edited, tombstone_update},
};

/// Statements in one operation: a message is 48 MB at most, and a statement some 17 kB.
const MAX_STATEMENTS: usize = 500;

/// Change a stored message.
#[derive(Clone, Debug)]
pub enum ChangeCommand {
    /// Replace its content.
    Edit(EditCommand),
    /// Replace it by a tombstone.
    Delete(DeleteCommand),
}

impl Store {
    /// Applies changes to different messages. The results stand in the commands' order; there is
    /// none where a change has to be tried by itself, because its message changed at the same time
    /// or because MongoDB refuses it.
    pub async fn change_many(
        &self,
        commands: &[ChangeCommand],
    ) -> Result<Vec<Option<CommandResult>>, StoreError> {
        let mut results = Vec::with_capacity(commands.len());
        for chunk in commands.chunks(MAX_STATEMENTS) {
            self.update_many(chunk).await?;
            let ids = chunk.iter().map(ChangeCommand::message_id);
            let mut existing = self.read_stored(ids).await?;
            for command in chunk {
                let met = existing.remove(&command.message_id());
                // What an edit's answer shows may be newer than the edit, as it may be when the
                // edit is delivered again.
                results.push(match command {
                    ChangeCommand::Edit(edit) => not_edited(met, edit)?,
                    ChangeCommand::Delete(delete) => not_deleted(met, delete),
                });
            }
        }
        Ok(results)
    }

    /// Which statements applied is then read off the documents; one that MongoDB refused applied
    /// as little as one whose filter matched nothing.
    async fn update_many(&self, commands: &[ChangeCommand]) -> Result<(), StoreError> {
        let statements: Vec<Bson> = commands
            .iter()
            .map(|command| {
                let (filter, update) = match command {
                    ChangeCommand::Edit(edit) => (edit_filter(edit), edit_update(edit)),
                    ChangeCommand::Delete(delete) => {
                        (delete_filter(delete), tombstone_update(delete))
                    }
                };
                Bson::from(doc! { "q": filter, "u": [update] })
            })
            .collect();
        // The driver has no such call for the servers that this runs on, and adds no write concern
        // to a command of one's own.
        let update = doc! {
            "update": self.messages.name(),
            "updates": statements,
            "ordered": false,
            "writeConcern": { "w": "majority", "j": true },
        };
        let database = self.database().clone();
        let answer = self.run(async move { database.run_command(update).await }).await?;
        match answer.get("writeConcernError") {
            None => Ok(()),
            Some(error) => Err(StoreError::Unconfirmed(error.to_string())),
        }
    }
}

impl ChangeCommand {
    /// The message to change.
    #[must_use]
    pub fn message_id(&self) -> MessageId {
        match self {
            Self::Edit(edit) => edit.message_id,
            Self::Delete(delete) => delete.message_id,
        }
    }
}
