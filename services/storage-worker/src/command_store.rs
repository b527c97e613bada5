//! What a worker needs of a store. There is one, [`Store`]; a test puts another before it that
//! panics, dies or lies.

use contracts::{CommandId, CommandResult, MessageId};
use std::collections::HashMap;
use store::{
    AttemptId, ChangeCommand, CreateCommand, DeleteCommand, EditCommand, Ending, Rejected, Store,
    StoreError,
};

/// Applies commands and remembers how they ended. Every call may be repeated without harm.
pub trait CommandStore: Clone + Send + Sync + 'static {
    /// Makes what indexes are missing.
    fn ensure_indexes(&self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Stores new messages. The results stand in the commands' order.
    fn create_many(
        &self,
        commands: &[CreateCommand],
    ) -> impl Future<Output = Result<Vec<Result<CommandResult, Rejected>>, StoreError>> + Send;

    /// Applies an edit.
    fn edit(
        &self,
        command: &EditCommand,
    ) -> impl Future<Output = Result<CommandResult, StoreError>> + Send;

    /// Applies a deletion.
    fn delete(
        &self,
        command: &DeleteCommand,
    ) -> impl Future<Output = Result<CommandResult, StoreError>> + Send;

    /// Applies changes to different messages. The results stand in the commands' order, without one
    /// where a change has to be tried by itself.
    fn change_many(
        &self,
        commands: &[ChangeCommand],
    ) -> impl Future<Output = Result<Vec<Option<CommandResult>>, StoreError>> + Send;

    /// Records how commands ended, and gives what is recorded of each.
    fn record_endings(
        &self,
        ended: &[(CommandId, MessageId, Ending)],
    ) -> impl Future<Output = Result<HashMap<CommandId, Ending>, StoreError>> + Send;

    /// What is recorded of these commands.
    fn recorded_endings(
        &self,
        commands: &[CommandId],
    ) -> impl Future<Output = Result<HashMap<CommandId, Ending>, StoreError>> + Send;

    /// Forgets that these commands were parked.
    fn forget_dead_lettered(
        &self,
        commands: &[CommandId],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Counts a try of a command that may have killed a worker; says which one it is, from 1, or 0
    /// where it has survived one.
    fn count_attempt(
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
    fn note_survival(
        &self,
        command: CommandId,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Forgets suspects whose delivery has come to its end.
    fn clear_suspects(
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
    ) -> Result<Vec<Result<CommandResult, Rejected>>, StoreError> {
        Store::create_many(self, commands).await
    }

    async fn edit(&self, command: &EditCommand) -> Result<CommandResult, StoreError> {
        Store::edit(self, command).await
    }

    async fn delete(&self, command: &DeleteCommand) -> Result<CommandResult, StoreError> {
        Store::delete(self, command).await
    }

    async fn change_many(
        &self,
        commands: &[ChangeCommand],
    ) -> Result<Vec<Option<CommandResult>>, StoreError> {
        Store::change_many(self, commands).await
    }

    async fn record_endings(
        &self,
        ended: &[(CommandId, MessageId, Ending)],
    ) -> Result<HashMap<CommandId, Ending>, StoreError> {
        Store::record_endings(self, ended).await
    }

    async fn recorded_endings(
        &self,
        commands: &[CommandId],
    ) -> Result<HashMap<CommandId, Ending>, StoreError> {
        Store::recorded_endings(self, commands.iter().copied()).await
    }

    async fn forget_dead_lettered(&self, commands: &[CommandId]) -> Result<(), StoreError> {
        Store::forget_dead_lettered(self, commands).await
    }

    async fn count_attempt(
        &self,
        command: CommandId,
        attempt: AttemptId,
    ) -> Result<u32, StoreError> {
        Store::count_attempt(self, command, attempt).await
    }

    async fn withdraw_attempt(
        &self,
        command: CommandId,
        attempt: AttemptId,
    ) -> Result<(), StoreError> {
        Store::withdraw_attempt(self, command, attempt).await
    }

    async fn note_survival(&self, command: CommandId) -> Result<(), StoreError> {
        Store::note_survival(self, command).await
    }

    async fn clear_suspects(&self, commands: &[CommandId]) -> Result<(), StoreError> {
        Store::clear_suspects(self, commands).await
    }
}
