//! Changes that messages remember of the commands that changed them, for the log of changes.

use std::collections::HashMap;

use contracts::{Change, ChangeKind, CommandId, MessageId};
use mongodb::bson::{RawDocument, RawDocumentBuf};

use super::document::{Participants, applied_commands, is_deleted};
use crate::{
    Store, StoreError,
    convert::{raw_uuid, to_uuid},
};

impl Store {
    /// Returns the changes that these commands made, as their messages and tombstones remember them. A command is missing
    /// if its message does not remember it, or does not tell its users: a tombstone of release 0.1 does not, and what is
    /// damaged may not.
    pub async fn remembered_changes(
        &self,
        commands: &[(CommandId, MessageId)],
    ) -> Result<HashMap<CommandId, Change>, StoreError> {
        if commands.is_empty() {
            return Ok(HashMap::new());
        }
        let documents = self.read_by_id(commands.iter().map(|&(_, message)| message)).await?;
        let id = |document: &RawDocumentBuf| raw_uuid(document).map(MessageId::from);
        let documents: HashMap<MessageId, RawDocumentBuf> = documents
            .into_iter()
            .map(|document| Ok::<_, StoreError>((id(&document)?, document)))
            .collect::<Result<_, _>>()?;
        let remembered = commands.iter().filter_map(|&(command, message)| {
            Some((command, change_of(command, message, documents.get(&message)?)?))
        });
        Ok(remembered.collect())
    }
}

fn change_of(command: CommandId, message_id: MessageId, document: &RawDocument) -> Option<Change> {
    let created_by = document.get("created_by").ok().flatten().and_then(to_uuid)?;
    let (kind, version) = if CommandId::from(created_by) == command {
        (ChangeKind::Created, 1)
    } else {
        let applied = applied_commands(document).ok()?;
        let place = applied.iter().position(|applied| applied.command == command)?;
        // Nothing changes a tombstone, so the deletion is the newest.
        let deletes = place == 0 && is_deleted(document);
        let kind = if deletes { ChangeKind::Deleted } else { ChangeKind::Edited };
        (kind, applied[place].version)
    };
    let Participants { from, to } = Participants::read(document);
    let (from_user_id, to_user_id) = (from?, to?);
    Some(Change { kind, message_id, version, from_user_id, to_user_id })
}
