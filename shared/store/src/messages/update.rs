//! Applying one edit or deletion. The operation's filter holds the rule. When it matches nothing, the
//! stored document tells why.

use contracts::Outcome;
use mongodb::options::ReturnDocument;

use super::{
    command::{Update, UpdateCommand},
    document::StoredDocument,
};
use crate::{Store, StoreError};

/// Maximum number of tries of a write whose document keeps changing between write and read.
const MAX_TRIES: usize = 16;

impl Store {
    /// Applies an edit or a deletion.
    pub async fn update(&self, command: &UpdateCommand) -> Result<Outcome, StoreError> {
        for _ in 0..MAX_TRIES {
            let (filter, stage) = (command.filter(), command.stage());
            let messages = self.messages.clone();
            let change = async move {
                let change = messages.find_one_and_update(filter, vec![stage]);
                change.return_document(ReturnDocument::After).await
            };
            let stored = match self.run(change).await? {
                // The tombstone stays unread: that of a damaged document is damaged, too.
                Some(_) if matches!(command.update, Update::Delete) => return Ok(Outcome::Deleted),
                Some(document) => Some(StoredDocument::from_raw(&document)?),
                None => self.read_changed(command.message_id).await?,
            };
            if let Some(outcome) = command.outcome(stored) {
                return Ok(outcome);
            }
        }
        Err(StoreError::Contended)
    }
}
