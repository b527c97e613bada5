//! What a worker needs of a store. There is one, [`Store`]; a test puts another before it that
//! panics, dies or lies.

use contracts::{CommandId, MessageId, Outcome};
use std::collections::HashMap;
use store::{
    AttemptId, CreateCommand, DeleteCommand, EditCommand, RecordedOutcome, Rejected, Store,
    StoreError, UpdateCommand,
};

/// Applies commands and remembers how they ended. Every call may be repeated without harm.
pub trait CommandStore: Clone + Send + Sync + 'static {
    /// Makes what indexes are missing.
    fn ensure_indexes(&self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Stores new messages. The results stand in the commands' order.
    fn create_many(
        &self,
        commands: &[CreateCommand],
    ) -> impl Future<Output = Result<Vec<Result<Outcome, Rejected>>, StoreError>> + Send;

    /// Applies an edit.
    fn edit(
        &self,
        command: &EditCommand,
    ) -> impl Future<Output = Result<Outcome, StoreError>> + Send;

    /// Applies a deletion.
    fn delete(
        &self,
        command: &DeleteCommand,
    ) -> impl Future<Output = Result<Outcome, StoreError>> + Send;

    /// Applies changes to different messages. The results stand in the commands' order, without one
    /// where a change has to be tried by itself.
    fn bulk_write(
        &self,
        commands: &[UpdateCommand],
    ) -> impl Future<Output = Result<Vec<Option<Outcome>>, StoreError>> + Send;

    /// Records how commands ended, and gives what is recorded of each.
    fn record_outcomes(
        &self,
        ended: &[(CommandId, MessageId, RecordedOutcome)],
    ) -> impl Future<Output = Result<HashMap<CommandId, RecordedOutcome>, StoreError>> + Send;

    /// What is recorded of these commands.
    fn recorded_outcomes(
        &self,
        commands: &[CommandId],
    ) -> impl Future<Output = Result<HashMap<CommandId, RecordedOutcome>, StoreError>> + Send;

    /// Forgets that these commands were parked.
    fn forget_dead_lettered(
        &self,
        commands: &[CommandId],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Counts a try of a command that may have killed a worker; says which one it is, from 1, or 0
    /// where it has survived one.
    fn record_attempt(
        &self,
        command: CommandId,
        attempt: AttemptId,
    ) -> impl Future<Output = Result<u32, StoreError>> + Send;

    /// Counts a try no longer.
    fn withdraw_attempt(
        &self,
        command: CommandId,
        attempt: AttemptId,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Notes that a try did no harm.
    fn record_success(
        &self,
        command: CommandId,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Forgets suspects whose delivery has come to its end.
    fn clear_delivery_attempts(
        &self,
        commands: &[CommandId],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

impl CommandStore for Store {
    async fn ensure_indexes(&self) -> Result<(), StoreError> {
        Store::ensure_indexes(self).await
    }

    async fn create_many(
        &self,
        commands: &[CreateCommand],
    ) -> Result<Vec<Result<Outcome, Rejected>>, StoreError> {
        Store::create_many(self, commands).await
    }

    async fn edit(&self, command: &EditCommand) -> Result<Outcome, StoreError> {
        Store::edit(self, command).await
    }

    async fn delete(&self, command: &DeleteCommand) -> Result<Outcome, StoreError> {
        Store::delete(self, command).await
    }

    async fn bulk_write(
        &self,
        commands: &[UpdateCommand],
    ) -> Result<Vec<Option<Outcome>>, StoreError> {
        Store::bulk_write(self, commands).await
    }

    async fn record_outcomes(
        &self,
        ended: &[(CommandId, MessageId, RecordedOutcome)],
    ) -> Result<HashMap<CommandId, RecordedOutcome>, StoreError> {
        Store::record_outcomes(self, ended).await
    }

    async fn recorded_outcomes(
        &self,
        commands: &[CommandId],
    ) -> Result<HashMap<CommandId, RecordedOutcome>, StoreError> {
        Store::recorded_outcomes(self, commands.iter().copied()).await
    }

    async fn forget_dead_lettered(&self, commands: &[CommandId]) -> Result<(), StoreError> {
        Store::forget_dead_lettered(self, commands).await
    }

    async fn record_attempt(
        &self,
        command: CommandId,
        attempt: AttemptId,
    ) -> Result<u32, StoreError> {
        Store::record_attempt(self, command, attempt).await
    }

    async fn withdraw_attempt(
        &self,
        command: CommandId,
        attempt: AttemptId,
    ) -> Result<(), StoreError> {
        Store::withdraw_attempt(self, command, attempt).await
    }

    async fn record_success(&self, command: CommandId) -> Result<(), StoreError> {
        Store::record_success(self, command).await
    }

    async fn clear_delivery_attempts(&self, commands: &[CommandId]) -> Result<(), StoreError> {
        Store::clear_delivery_attempts(self, commands).await
    }
}
