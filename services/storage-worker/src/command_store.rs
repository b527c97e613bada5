//! The writes that a worker does to a store. Tests put a store of their own in front of the real one,
//! which panics, dies or lies.

use contracts::Outcome;
use store::{CreateCommand, LogAppender, PendingEntry, Store, StoreError, UpdateCommand};

/// Applies commands. Every call can be repeated without harm.
///
/// The defaults are the real store's; an implementation replaces those that it has faults in.
#[expect(async_fn_in_trait, reason = "a worker awaits these in its own task")]
pub trait CommandStore {
    /// Returns the real store.
    fn store(&self) -> &Store;

    /// Stores a new message: [`Store::create`].
    async fn create(&self, command: &CreateCommand) -> Result<Outcome, StoreError> {
        self.store().create(command).await
    }

    /// Stores new messages: [`Store::create_many`].
    async fn create_many(
        &self,
        commands: &[CreateCommand],
    ) -> Result<Vec<Option<Outcome>>, StoreError> {
        self.store().create_many(commands).await
    }

    /// Applies an edit or a deletion: [`Store::update`].
    async fn update(&self, command: &UpdateCommand) -> Result<Outcome, StoreError> {
        self.store().update(command).await
    }

    /// Applies edits and deletions of different messages: [`Store::bulk_write`].
    async fn bulk_write(
        &self,
        commands: &[UpdateCommand],
    ) -> Result<Vec<Option<Outcome>>, StoreError> {
        self.store().bulk_write(commands).await
    }

    /// Appends an entry to the log of changes: [`LogAppender::append`].
    async fn append(
        &self,
        appender: &mut LogAppender,
        pending: &mut PendingEntry,
    ) -> Result<(), StoreError> {
        appender.append(pending).await.map(drop)
    }
}

impl CommandStore for Store {
    fn store(&self) -> &Store {
        self
    }
}
