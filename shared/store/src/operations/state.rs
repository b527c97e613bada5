//! The state of an operation, long after its command was applied.

use std::time::Duration;

use contracts::{CommandId, Failure, OperationId, Timestamp, UserId};

use super::{LIFETIME, RecordedOutcome};
use crate::{
    Store, StoreError,
    messages::document::{REMEMBERED_COMMANDS, StoredDocument},
};

/// Maximum time by which a gateway's clock may be ahead of this machine's.
const MAX_CLOCK_SKEW: Duration = Duration::from_hours(1);

/// State of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationState {
    /// The command is not applied yet, as far as the store knows.
    Pending,
    /// The command took effect, or what it would have made already existed.
    Succeeded,
    /// The command failed for good.
    Failed(Failure),
    /// A command with this id would have been issued so long ago that its outcome is not known any more.
    Expired,
    /// No gateway can have issued a command with this id.
    NotIssued,
}

impl Store {
    /// Returns the state of an operation. A recorded outcome tells it, or else the message or its
    /// tombstone. `requester` is the user who may change own messages only: of others' it learns nothing.
    pub async fn operation(
        &self,
        id: OperationId,
        requester: Option<&UserId>,
    ) -> Result<OperationState, StoreError> {
        let outcomes = self.recorded_outcomes([id.command_id]).await?;
        let without_trace = match outcomes.get(&id.command_id) {
            // The message decides: an operator may have replayed the command since, and the worker
            // that dead-lettered it may record that late.
            Some(RecordedOutcome::Failed(dead @ Failure::DeadLettered)) => {
                OperationState::Failed(*dead)
            }
            Some(RecordedOutcome::Failed(failure)) => return Ok(OperationState::Failed(*failure)),
            Some(RecordedOutcome::Replayed | RecordedOutcome::Superseded) => {
                return Ok(OperationState::Succeeded);
            }
            Some(RecordedOutcome::Unknown) => {
                return Err(StoreError::Unreadable("the recorded outcome".to_owned()));
            }
            None => without_record(id.command_id),
        };
        let Some(found) = self.read_changed(id.message_id).await? else {
            return Ok(without_trace);
        };
        let is_own = requester.is_none() || requester == found.participants().from.as_ref();
        let stored = match found.stored() {
            Ok(stored) => stored,
            Err(_) if !is_own => return Ok(without_trace),
            Err(error) => return Err(error),
        };
        // A failure would be recorded. So a pending command that the message cannot remember, because
        // of many later ones, took effect.
        let succeeded = stored.created_by == id.command_id
            || stored.version_made_by(id.command_id).is_some()
            || is_own
                && without_trace == OperationState::Pending
                && remembers_only_later(&stored, id.command_id);
        Ok(if succeeded { OperationState::Succeeded } else { without_trace })
    }
}

/// Returns the state of an operation without a record, by the time in its id.
fn without_record(command: CommandId) -> OperationState {
    let now = Timestamp::now();
    match command.issued_at() {
        Some(at) if at.elapsed_until(now) > LIFETIME => OperationState::Expired,
        Some(at) if now.elapsed_until(at) <= MAX_CLOCK_SKEW => OperationState::Pending,
        // No clock has reached the time of the id, or it has none.
        Some(_) | None => OperationState::NotIssued,
    }
}

fn remembers_only_later(stored: &StoredDocument, command: CommandId) -> bool {
    stored.applied.len() >= REMEMBERED_COMMANDS as usize
        && stored.applied.iter().all(|entry| entry.command > command)
}
