//! A storage worker with faults in its store, for the tests: it panics over, dies of, or cannot store
//! for now, a create whose content asks for it.

use std::{collections::HashMap, process::ExitCode, time::Duration};

use anyhow::Context;
use contracts::{CommandId, MessageId, Outcome};
use service::Shutdown;
use storage_worker::{CommandStore, Config};
use store::{
    AttemptId, CreateCommand, DeleteCommand, EditCommand, RecordedOutcome, Rejected, Store,
    StoreError, StoreSettings, UpdateCommand,
};

/// A content that panics whoever stores it.
const PANIC: &str = "panic!";

/// A content that kills the process which stores it.
const ABORT: &str = "abort!";

/// A content that kills the process after a while.
const ABORT_LATER: &str = "abort later!";

/// How much later.
const LATER: Duration = Duration::from_millis(1_500);

/// A content that this store is never ready for.
const STALL: &str = "stall!";

#[derive(Clone)]
struct FaultyStore(Store);

fn main() -> ExitCode {
    service::run_service("faulty-worker", run)
}

async fn run(config: Config, shutdown: Shutdown) -> anyhow::Result<()> {
    let settings = StoreSettings::new(config.store.clone(), "faulty-worker");
    let store = Store::new(settings).await.context("MONGO_URI")?;
    let up = store.up();
    storage_worker::run_with(config, shutdown, FaultyStore(store), up).await
}

impl CommandStore for FaultyStore {
    async fn ensure_indexes(&self) -> Result<(), StoreError> {
        self.0.ensure_indexes().await
    }

    async fn create_many(
        &self,
        commands: &[CreateCommand],
    ) -> Result<Vec<Result<Outcome, Rejected>>, StoreError> {
        for command in commands {
            match command.content.as_str() {
                PANIC => {
                    #[expect(clippy::panic, reason = "what this program is for")]
                    {
                        panic!("asked to")
                    }
                }
                ABORT => std::process::abort(),
                ABORT_LATER => {
                    tokio::time::sleep(LATER).await;
                    std::process::abort()
                }
                STALL => return Err(StoreError::Silent(Duration::ZERO)),
                _ => {}
            }
        }
        self.0.create_many(commands).await
    }

    async fn edit(&self, command: &EditCommand) -> Result<Outcome, StoreError> {
        self.0.edit(command).await
    }

    async fn delete(&self, command: &DeleteCommand) -> Result<Outcome, StoreError> {
        self.0.delete(command).await
    }

    async fn bulk_write(
        &self,
        commands: &[UpdateCommand],
    ) -> Result<Vec<Option<Outcome>>, StoreError> {
        self.0.bulk_write(commands).await
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
