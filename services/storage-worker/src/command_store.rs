//! The writes that a worker does to a store. Tests put a store of their own in front of the real one,
//! which panics, dies or lies.

use contracts::Outcome;
use store::{CreateCommand, Store, StoreError, UpdateCommand};

/// Applies commands. Every call can be repeated without harm.
///
/// The defaults are the real store's; an implementation replaces those that it has faults in.
pub trait CommandStore: Clone + Send + Sync + 'static {
    /// Returns the real store.
    fn store(&self) -> &Store;

    /// Stores a new message: [`Store::create`].
    fn create(
        &self,
        command: &CreateCommand,
    ) -> impl Future<Output = Result<Outcome, StoreError>> + Send {
        self.store().create(command)
    }

    /// Stores new messages: [`Store::create_many`].
    fn create_many(
        &self,
        commands: &[CreateCommand],
    ) -> impl Future<Output = Result<Vec<Option<Outcome>>, StoreError>> + Send {
        self.store().create_many(commands)
    }

    /// Applies an edit or a deletion: [`Store::update`].
    fn update(
        &self,
        command: &UpdateCommand,
    ) -> impl Future<Output = Result<Outcome, StoreError>> + Send {
        self.store().update(command)
    }

    /// Applies edits and deletions of different messages: [`Store::bulk_write`].
    fn bulk_write(
        &self,
        commands: &[UpdateCommand],
    ) -> impl Future<Output = Result<Vec<Option<Outcome>>, StoreError>> + Send {
        self.store().bulk_write(commands)
    }
}

impl CommandStore for Store {
    fn store(&self) -> &Store {
        self
    }
}
