//! A storage worker whose store answers some commands before it applies them, to show that the
//! checker finds it out. `LIE_ABOUT` says which.

use std::{collections::HashMap, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::ValueEnum;
use contracts::{CommandId, MessageId, Outcome};
use service::Shutdown;
use storage_worker::{CommandStore, Config};
use store::{
    AttemptId, CreateCommand, DeleteCommand, EditCommand, RecordedOutcome, Rejected, Store,
    StoreError, StoreSettings, UpdateCommand,
};
use torture::Lie;

/// How long after its answer it writes: long enough that a short run meets the lie when it reads
/// what is stored, if no client does before.
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
    async fn ensure_indexes(&self) -> Result<(), StoreError> {
        self.0.ensure_indexes().await
    }

    async fn create_many(
        &self,
        commands: &[CreateCommand],
    ) -> Result<Vec<Result<Outcome, Rejected>>, StoreError> {
        if self.1 != Lie::Creates {
            return self.0.create_many(commands).await;
        }
        let (store, commands) = (self.0.clone(), commands.to_vec());
        let answers = vec![Ok(Outcome::Created); commands.len()];
        tokio::spawn(async move {
            tokio::time::sleep(LATER).await;
            let _ = store.create_many(&commands).await;
        });
        Ok(answers)
    }

    async fn edit(&self, command: &EditCommand) -> Result<Outcome, StoreError> {
        if self.1 != Lie::Edits || command.if_match.is_some() {
            return self.0.edit(command).await;
        }
        let Some(mut edited) = self.0.find(command.message_id).await? else {
            return self.0.edit(command).await;
        };
        edited.message.content = command.content.clone();
        edited.message.edit_timestamp = Some(command.edit_timestamp);
        edited.version += 1;
        let (store, command) = (self.0.clone(), command.clone());
        tokio::spawn(async move {
            tokio::time::sleep(LATER).await;
            let _ = store.edit(&command).await;
        });
        Ok(Outcome::Edited(edited))
    }

    async fn delete(&self, command: &DeleteCommand) -> Result<Outcome, StoreError> {
        let known = self.0.find(command.message_id).await?;
        if self.1 != Lie::Deletions || command.if_match.is_some() || known.is_none() {
            return self.0.delete(command).await;
        }
        let (store, command) = (self.0.clone(), command.clone());
        tokio::spawn(async move {
            tokio::time::sleep(LATER).await;
            let _ = store.delete(&command).await;
        });
        Ok(Outcome::Deleted)
    }

    async fn bulk_write(
        &self,
        commands: &[UpdateCommand],
    ) -> Result<Vec<Option<Outcome>>, StoreError> {
        if self.1 == Lie::Creates {
            return self.0.bulk_write(commands).await;
        }
        // Each by itself, by the rules above.
        Ok(vec![None; commands.len()])
    }

    async fn record_outcomes(
        &self,
        ended: &[(CommandId, MessageId, RecordedOutcome)],
    ) -> Result<HashMap<CommandId, RecordedOutcome>, StoreError> {
        self.0.record_outcomes(ended).await
    }

    async fn recorded_outcomes(
        &self,
        commands: &[CommandId],
    ) -> Result<HashMap<CommandId, RecordedOutcome>, StoreError> {
        self.0.recorded_outcomes(commands.iter().copied()).await
    }

    async fn forget_dead_lettered(&self, commands: &[CommandId]) -> Result<(), StoreError> {
        self.0.forget_dead_lettered(commands).await
    }

    async fn record_attempt(
        &self,
        command: CommandId,
        attempt: AttemptId,
    ) -> Result<u32, StoreError> {
        self.0.record_attempt(command, attempt).await
    }

    async fn withdraw_attempt(
        &self,
        command: CommandId,
        attempt: AttemptId,
    ) -> Result<(), StoreError> {
        self.0.withdraw_attempt(command, attempt).await
    }

    async fn record_success(&self, command: CommandId) -> Result<(), StoreError> {
        self.0.record_success(command).await
    }

    async fn clear_delivery_attempts(&self, commands: &[CommandId]) -> Result<(), StoreError> {
        self.0.clear_delivery_attempts(commands).await
    }
}
