//! A storage worker whose store answers before it writes, to show that the checker finds it out.

use std::{collections::HashMap, process::ExitCode, time::Duration};

use anyhow::Context;
use contracts::{CommandId, CommandResult, MessageId};
use runtime::{ServiceConfig, Shutdown};
use storage_worker::{CommandStore, Config};
use store::{
    AttemptId, ChangeCommand, CreateCommand, DeleteCommand, EditCommand, Ending, Rejected, Store,
    StoreError, StoreSettings,
};

/// How long after its answer it writes.
const LATER: Duration = Duration::from_millis(500);

#[derive(Clone)]
struct LyingStore(Store);

fn main() -> ExitCode {
    runtime::run_service("lying-worker", run)
}

async fn run(config: Config, shutdown: Shutdown) -> anyhow::Result<()> {
    let common = config.common();
    let store = Store::new(StoreSettings {
        uri: common.mongo_uri.expose().to_owned(),
        database: common.mongo_database.clone(),
        app_name: "lying-worker".to_owned(),
        max_connections: 8,
        operation_timeout: Duration::from_secs(10),
    })
    .await
    .context("MONGO_URI")?;
    let up = store.up();
    storage_worker::run_with(config, shutdown, LyingStore(store), up).await
}

impl CommandStore for LyingStore {
    async fn ensure_indexes(&self) -> Result<(), StoreError> {
        self.0.ensure_indexes().await
    }

    async fn create_many(
        &self,
        commands: &[CreateCommand],
    ) -> Result<Vec<Result<CommandResult, Rejected>>, StoreError> {
        let (store, commands) = (self.0.clone(), commands.to_vec());
        let answers = vec![Ok(CommandResult::Created); commands.len()];
        tokio::spawn(async move {
            tokio::time::sleep(LATER).await;
            let _ = store.create_many(&commands).await;
        });
        Ok(answers)
    }

    async fn edit(&self, command: &EditCommand) -> Result<CommandResult, StoreError> {
        self.0.edit(command).await
    }

    async fn delete(&self, command: &DeleteCommand) -> Result<CommandResult, StoreError> {
        self.0.delete(command).await
    }

    async fn change_many(
        &self,
        commands: &[ChangeCommand],
    ) -> Result<Vec<Option<CommandResult>>, StoreError> {
        self.0.change_many(commands).await
    }

    async fn record_endings(
        &self,
        ended: &[(CommandId, MessageId, Ending)],
    ) -> Result<HashMap<CommandId, Ending>, StoreError> {
        self.0.record_endings(ended).await
    }

    async fn recorded_endings(
        &self,
        commands: &[CommandId],
    ) -> Result<HashMap<CommandId, Ending>, StoreError> {
        self.0.recorded_endings(commands.iter().copied()).await
    }

    async fn count_attempt(
        &self,
        command: CommandId,
        attempt: AttemptId,
    ) -> Result<u32, StoreError> {
        self.0.count_attempt(command, attempt).await
    }

    async fn withdraw_attempt(
        &self,
        command: CommandId,
        attempt: AttemptId,
    ) -> Result<(), StoreError> {
        self.0.withdraw_attempt(command, attempt).await
    }

    async fn note_survival(&self, command: CommandId) -> Result<(), StoreError> {
        self.0.note_survival(command).await
    }

    async fn clear_suspects(&self, commands: &[CommandId]) -> Result<(), StoreError> {
        self.0.clear_suspects(commands).await
    }
}
