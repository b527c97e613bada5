//! What became of a command, long after.

use contracts::{Failure, OperationId};

use crate::{
    Store, StoreError,
    documents::{StoredDocument, applied_version, command_uuid},
};

/// How a command ended, if it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationState {
    /// It is not applied yet, as far as the store knows.
    Pending,
    /// It took effect.
    Succeeded,
    /// It changed nothing, for good.
    Failed(Failure),
}

impl Store {
    /// How an operation's command ended: failures are recorded, successes stand in the message.
    pub async fn operation(&self, id: OperationId) -> Result<OperationState, StoreError> {
        let failures = self.recorded_failures(std::iter::once(id.command_id)).await?;
        if let Some(failure) = failures.get(&id.command_id) {
            return Ok(OperationState::Failed(*failure));
        }
        let (created_by, applied) = match self.read_one(id.message_id).await? {
            None => return Ok(OperationState::Pending),
            Some(StoredDocument::Message(message)) => (message.created_by, message.applied),
            Some(StoredDocument::Tombstone(tombstone)) => (tombstone.created_by, tombstone.applied),
        };
        let took_effect = created_by == command_uuid(id.command_id)
            || applied_version(&applied, id.command_id).is_some();
        Ok(if took_effect { OperationState::Succeeded } else { OperationState::Pending })
    }
}
