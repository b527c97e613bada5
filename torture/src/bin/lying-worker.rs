//! A storage worker whose store reports some commands as done before it applies them, or keeps changes out of the log, to
//! show that the checker notices. `LIE_ABOUT` says which.

use std::{process::ExitCode, time::Duration};

use anyhow::Context;
use clap::ValueEnum;
use contracts::{Change, Outcome, Precondition};
use service::Shutdown;
use storage_worker::{CommandStore, Config};
use store::{
    CreateCommand, LogAppender, PendingEntry, Store, StoreError, StoreSettings, Update,
    UpdateCommand,
};
use torture::Lie;

/// Time between the lie and the write: so long that a short run reads what is stored in between, if no
/// client does before.
const LATER: Duration = Duration::from_secs(10);

#[derive(Clone)]
struct LyingStore(Store, Lie);

fn main() -> ExitCode {
    service::run_service("lying-worker", run)
}

async fn run(config: Config, shutdown: Shutdown) -> anyhow::Result<()> {
    let settings = StoreSettings::new(config.store.clone(), "lying-worker");
    let store = Store::new(settings).await.context("MONGO_URI")?;
    let lie = std::env::var(Lie::VARIABLE).context(Lie::VARIABLE)?;
    let lie = Lie::from_str(&lie, false).map_err(anyhow::Error::msg).context(Lie::VARIABLE)?;
    let up = store.up();
    storage_worker::run_with(config, shutdown, LyingStore(store, lie), up).await
}

impl CommandStore for LyingStore {
    fn store(&self) -> &Store {
        &self.0
    }

    async fn create(&self, command: &CreateCommand) -> Result<Outcome, StoreError> {
        if self.1 != Lie::Creates {
            return self.0.create(command).await;
        }
        let (store, command) = (self.0.clone(), command.clone());
        later(async move { store.create(&command).await });
        Ok(Outcome::Created)
    }

    async fn create_many(
        &self,
        commands: &[CreateCommand],
    ) -> Result<Vec<Option<Outcome>>, StoreError> {
        if self.1 != Lie::Creates {
            return self.0.create_many(commands).await;
        }
        // Each by itself, so that each is a lie.
        Ok(vec![None; commands.len()])
    }

    async fn update(&self, command: &UpdateCommand) -> Result<Outcome, StoreError> {
        if command.precondition != Precondition::default() {
            return self.0.update(command).await;
        }
        let known = self.0.find(command.message_id).await?;
        let lie = match (&command.update, self.1, known) {
            (Update::Edit { content, edit_timestamp, .. }, Lie::Edits, Some(mut edited)) => {
                edited.message.content = content.clone();
                edited.message.edit_timestamp = Some(*edit_timestamp);
                edited.version += 1;
                Outcome::Edited(edited)
            }
            (Update::Delete, Lie::Deletions, Some(_)) => Outcome::Deleted,
            _ => return self.0.update(command).await,
        };
        let (store, command) = (self.0.clone(), command.clone());
        later(async move { store.update(&command).await });
        Ok(lie)
    }

    async fn bulk_write(
        &self,
        commands: &[UpdateCommand],
    ) -> Result<Vec<Option<Outcome>>, StoreError> {
        if matches!(self.1, Lie::Creates | Lie::Events) {
            return self.0.bulk_write(commands).await;
        }
        // Each by itself, so that each is a lie.
        Ok(vec![None; commands.len()])
    }

    async fn append(
        &self,
        appender: &mut LogAppender,
        pending: &mut PendingEntry,
    ) -> Result<(), StoreError> {
        if self.1 == Lie::Events {
            let mut changes = pending.entry().changes.clone();
            let all = changes.len();
            changes.retain(|change| !is_kept_secret(change));
            if changes.is_empty() {
                return Ok(());
            }
            if changes.len() < all {
                *pending = PendingEntry::new(changes);
            }
        }
        self.0.append(appender, pending).await
    }
}

/// Chooses one message in eight, and all its changes: a later one would make up for an earlier one.
fn is_kept_secret(change: &Change) -> bool {
    change.message_id.to_string().ends_with(['0', '8'])
}

fn later(write: impl Future<Output = Result<Outcome, StoreError>> + Send + 'static) {
    tokio::spawn(async move {
        tokio::time::sleep(LATER).await;
        let _ = write.await;
    });
}
