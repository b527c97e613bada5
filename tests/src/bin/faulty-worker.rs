//! A storage worker with a faulty store, for the tests: some creates, chosen by their content, panic,
//! kill the process, or fail for ever. Changes of one user's messages do not get into the log.

use std::{future, process::ExitCode, slice, time::Duration};

use anyhow::Context;
use contracts::Outcome;
use service::Shutdown;
use storage_worker::{CommandStore, Config};
use store::{CreateCommand, LogAppender, PendingEntry, Store, StoreError, StoreSettings};

/// Content of a create that panics.
const PANIC: &str = "panic!";

/// Content of a create that kills the process.
const ABORT: &str = "abort!";

/// Content of a create that kills the process after a while.
const ABORT_LATER: &str = "abort later!";

/// Length of that while.
const LATER: Duration = Duration::from_millis(1_500);

/// Content of a create that fails as in an outage.
const STALL: &str = "stall!";

/// Sender of messages whose changes wait for ever for the log.
const UNLOGGED: &str = "unlogged";

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
    fn store(&self) -> &Store {
        &self.0
    }

    async fn create(&self, command: &CreateCommand) -> Result<Outcome, StoreError> {
        fail(slice::from_ref(command)).await?;
        self.0.create(command).await
    }

    async fn create_many(
        &self,
        commands: &[CreateCommand],
    ) -> Result<Vec<Option<Outcome>>, StoreError> {
        fail(commands).await?;
        self.0.create_many(commands).await
    }

    async fn append(
        &self,
        appender: &mut LogAppender,
        pending: &mut PendingEntry,
    ) -> Result<(), StoreError> {
        let changes = &pending.entry().changes;
        if changes.iter().any(|change| change.from_user_id.as_str() == UNLOGGED) {
            future::pending::<()>().await;
        }
        self.0.append(appender, pending).await
    }
}

/// Does what the contents ask for.
async fn fail(commands: &[CreateCommand]) -> Result<(), StoreError> {
    for command in commands {
        match command.content.as_str() {
            PANIC => {
                #[expect(clippy::panic, reason = "the purpose of this program")]
                {
                    panic!("asked to")
                }
            }
            ABORT => std::process::abort(),
            ABORT_LATER => {
                tokio::time::sleep(LATER).await;
                std::process::abort()
            }
            STALL => return Err(StoreError::Timeout(Duration::ZERO)),
            _ => {}
        }
    }
    Ok(())
}
