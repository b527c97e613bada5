//! What became of a command, long after.

use std::time::Duration;

use contracts::{Failure, OperationId, Timestamp};

use crate::{
    Store, StoreError,
    documents::{StoredDocument, applied_version, command_uuid},
    indexes::ENDING_LIFETIME,
    operation_records::RecordedOutcome,
    writes::REMEMBERED_COMMANDS,
};

/// How far ahead of this machine's clock a gateway's may be.
const MAX_CLOCK_SKEW: Duration = Duration::from_hours(1);

/// How a command ended, if it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationState {
    /// It is not applied yet, as far as the store knows.
    Pending,
    /// It took effect, or what it would have made was there already.
    Succeeded,
    /// It changed nothing, for good.
    Failed(Failure),
    /// It was issued so long ago that how it ended is not known any more.
    Expired,
}

impl Store {
    /// How an operation's command ended. What left no trace in the message is recorded; the rest
    /// stands in the message, or in its tombstone.
    pub async fn operation(&self, id: OperationId) -> Result<OperationState, StoreError> {
        let endings = self.recorded_outcomes(std::iter::once(id.command_id)).await?;
        let dead = RecordedOutcome::Failed(Failure::DeadLettered);
        let recorded = endings.get(&id.command_id);
        match recorded {
            // An operator may have put it back since, and whoever parked it may record that late.
            Some(ending) if *ending == dead => {}
            Some(RecordedOutcome::Failed(failure)) => return Ok(OperationState::Failed(*failure)),
            Some(RecordedOutcome::Replayed | RecordedOutcome::Superseded) => {
                return Ok(OperationState::Succeeded);
            }
            Some(RecordedOutcome::Unknown) => {
                return Err(StoreError::Unreadable("how the command ended".to_owned()));
            }
            None => {}
        }
        // By then a record would have expired, so that nothing is known says nothing any more.
        // And nothing can be known of what no clock has reached yet.
        let now = Timestamp::now();
        let forgotten = id.command_id.issued_at().is_none_or(|at| {
            at.elapsed_until(now) > ENDING_LIFETIME || now.elapsed_until(at) > MAX_CLOCK_SKEW
        });
        let unknown = match recorded {
            Some(_) => OperationState::Failed(Failure::DeadLettered),
            None if forgotten => OperationState::Expired,
            None => OperationState::Pending,
        };
        let (created_by, applied) = match self.read_one(id.message_id).await? {
            None => return Ok(unknown),
            Some(StoredDocument::Message(message)) => (message.created_by, message.applied),
            Some(StoredDocument::Tombstone(tombstone)) => (tombstone.created_by, tombstone.applied),
        };
        let command = command_uuid(id.command_id);
        if created_by == command || applied_version(&applied, id.command_id).is_some() {
            return Ok(OperationState::Succeeded);
        }
        // Many later commands have changed the message since. Had this one failed, that would be
        // recorded, so it has had its effect and is not remembered any more.
        let outlived = applied.len() >= REMEMBERED_COMMANDS as usize
            && applied.iter().all(|entry| entry.command.bytes() > command.bytes());
        let outlived = outlived && !forgotten && recorded.is_none();
        Ok(if outlived { OperationState::Succeeded } else { unknown })
    }
}
