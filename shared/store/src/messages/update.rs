//! Applying one edit or deletion. The operation's filter holds the rule. When it matches nothing, the
//! stored document tells why.

use contracts::Outcome;
use mongodb::{bson::Document, options::ReturnDocument};

use super::{
    command::{Update, UpdateCommand},
    delete,
    document::StoredDocument,
    edit,
};
use crate::{Store, StoreError};

/// Maximum number of tries of a write whose document keeps changing between write and read.
const MAX_TRIES: usize = 16;

impl Store {
    /// Applies an edit or a deletion.
    pub async fn update(&self, command: &UpdateCommand) -> Result<Outcome, StoreError> {
        for _ in 0..MAX_TRIES {
            let (filter, stage) = (command.filter(), command.stage());
            let messages = self.raw_messages.clone();
            let updated = self
                .run(async move {
                    messages
                        .find_one_and_update(filter, vec![stage])
                        .return_document(ReturnDocument::After)
                        .await
                })
                .await?;
            let stored = match updated {
                // The tombstone stays unread: that of a damaged document is damaged, too.
                Some(_) if matches!(command.update, Update::Delete) => return Ok(Outcome::Deleted),
                Some(document) => Some(StoredDocument::from_raw(&document)?),
                None => self.read_stored(command.message_id).await?,
            };
            if let Some(outcome) = command.outcome(stored)? {
                return Ok(outcome);
            }
        }
        Err(StoreError::Contended)
    }
}

impl UpdateCommand {
    /// Returns the filter of the documents that the command applies to.
    pub(super) fn filter(&self) -> Document {
        match &self.update {
            Update::Edit { edit_timestamp, .. } => edit::filter(self, *edit_timestamp),
            Update::Delete => delete::filter(self),
        }
    }

    /// Returns the stage that changes such a document.
    pub(super) fn stage(&self) -> Document {
        match &self.update {
            Update::Edit { content, edit_timestamp } => edit::stage(self, content, *edit_timestamp),
            Update::Delete => delete::stage(self),
        }
    }

    /// Returns the outcome, given the document as it is after the operation; `None` if the filter
    /// would match it now.
    pub(super) fn outcome(
        &self,
        stored: Option<StoredDocument>,
    ) -> Result<Option<Outcome>, StoreError> {
        match &self.update {
            Update::Edit { content, edit_timestamp } => {
                edit::outcome(self, content, *edit_timestamp, stored)
            }
            Update::Delete => Ok(delete::outcome(self, stored)),
        }
    }
}
