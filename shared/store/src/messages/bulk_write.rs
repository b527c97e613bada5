//! Applying many edits and deletions with two operations: an update with one statement for each, and a
//! read that tells the outcome of each. Every statement is the single-document operation that
//! [`Store::update`] would run, with the same filter.

use std::collections::HashMap;

use contracts::{MessageId, Outcome};
use futures_util::TryStreamExt;
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};

use super::{
    command::{Update, UpdateCommand},
    document::StoredDocument,
};
use crate::{Store, StoreError, convert::bson_uuids};

/// Maximum number of statements in one command. A command has 16 MiB at most, a statement some 17 kB, and
/// 3.6 kB more if it has a precondition of as many versions as one may have.
const MAX_STATEMENTS: usize = 500;

impl Store {
    /// Applies edits and deletions of different messages. Returns one outcome for each command, in
    /// their order; `None` for a command that must be applied by itself, because its message changed
    /// at the same time or because MongoDB refused it.
    pub async fn bulk_write(
        &self,
        commands: &[UpdateCommand],
    ) -> Result<Vec<Option<Outcome>>, StoreError> {
        let mut outcomes = Vec::with_capacity(commands.len());
        for chunk in commands.chunks(MAX_STATEMENTS) {
            let Some(mut stored) = self.update_and_read(chunk).await? else {
                outcomes.extend(chunk.iter().map(|_| Some(Outcome::Deleted)));
                continue;
            };
            for command in chunk {
                outcomes.push(command.outcome(stored.remove(&command.message_id)));
            }
        }
        Ok(outcomes)
    }

    /// Runs the statements, and returns the documents after them. They tell which statements applied:
    /// one that MongoDB refused left its document as one whose filter matched nothing. Returns `None`
    /// if all were deletions and all applied, which leaves nothing to read.
    async fn update_and_read(
        &self,
        commands: &[UpdateCommand],
    ) -> Result<Option<HashMap<MessageId, StoredDocument>>, StoreError> {
        // The driver has no such call for the supported servers, and adds no write concern to a
        // command that it does not know.
        let update = doc! {
            "update": self.messages.name(),
            "updates": commands.iter().map(statement).collect::<Vec<Bson>>(),
            "ordered": false,
            "writeConcern": { "w": "majority", "j": true },
        };
        let ids = bson_uuids(commands.iter().map(|command| command.message_id));
        // One more than there can be, so that the first batch is known to be the last.
        let batch_size = u32::try_from(ids.len() + 1).unwrap_or(u32::MAX);
        let mut updates = commands.iter().map(|command| &command.update);
        let deletions = updates.all(|update| matches!(update, Update::Delete)).then_some(ids.len());
        let (database, messages) = (self.database.clone(), self.messages.clone());
        let write_and_read = async move {
            // One session, so that the read sees the update even if another server has become the
            // primary in between.
            let mut session = database.client().start_session().causal_consistency(true).await?;
            let response = database.run_command(update).session(&mut session).await?;
            if deletions.is_some() && modified_count(&response) == deletions {
                return Ok((response, None));
            }
            let find = messages.find(doc! { "_id": { "$in": ids } }).batch_size(batch_size);
            let mut found = find.session(&mut session).await?;
            let documents: Vec<RawDocumentBuf> = found.stream(&mut session).try_collect().await?;
            Ok((response, Some(documents)))
        };
        let (response, documents) = self.run(write_and_read).await?;
        match response.get("writeConcernError") {
            None => documents.as_deref().map(|it| self.own_by_id(it)).transpose(),
            Some(error) => Err(StoreError::Unconfirmed(error.to_string())),
        }
    }
}

fn statement(command: &UpdateCommand) -> Bson {
    // Without the hint, MongoDB would weigh the other indexes for each statement.
    Bson::from(doc! { "q": command.filter(), "u": [command.stage()], "hint": "_id_" })
}

fn modified_count(response: &Document) -> Option<usize> {
    let count = response.get_i32("nModified").map(i64::from);
    usize::try_from(count.or_else(|_| response.get_i64("nModified")).ok()?).ok()
}
