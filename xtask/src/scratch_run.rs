//! The scaffolding of a run on private servers: a directory that is removed at its end, a ledger of its
//! processes, and an end by Ctrl-C. Programs and servers are killed as their values are dropped.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, ExitCode},
};

use anyhow::{Context, Result};
use testkit::{
    PrivateBroker, PrivateMongod, Progress, Steps,
    provision::{provide_mongod, provide_rabbitmq},
    settings,
};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::{
    cargo::{self, Running, exit_code},
    infrastructure::{ServerDirs, start_broker, start_mongod},
    interrupt::Interrupt,
    stack::{Ledger, Role, read_ledger, stop},
};

/// Exit code of a run that a signal ended, as shells have it.
const INTERRUPTED: u8 = 130;

/// A run under way.
pub(crate) struct ScratchRun {
    pub(crate) steps: Steps,
    pub(crate) target_dir: PathBuf,
    /// The run's own directory.
    pub(crate) dir: PathBuf,
    pub(crate) ledger: Ledger,
}

impl ScratchRun {
    /// Does `work` in a new directory `NAME-stack-PID` of the target directory, until it ends or is interrupted.
    /// Removes what earlier runs of this name left whose xtask was killed.
    pub(crate) async fn run(
        name: &str,
        work: impl AsyncFnOnce(&Self) -> Result<ExitCode>,
    ) -> Result<ExitCode> {
        let steps = Steps::begin();
        let interrupt = Interrupt::watch(steps)?;
        let target_dir = cargo::target_dir().await?;
        let prefix = format!("{name}-stack-");
        sweep(&target_dir, &prefix, steps).await;
        let dir = target_dir.join(format!("{prefix}{}", process::id()));
        fs::create_dir_all(&dir).with_context(|| format!("{} cannot be made", dir.display()))?;
        let run = Self { steps, target_dir, ledger: Ledger::open(&dir)?, dir };
        let done = interrupt.stop.run_until_cancelled(Box::pin(work(&run))).await;
        fs::remove_dir_all(&run.dir)
            .with_context(|| format!("{} cannot be removed", run.dir.display()))?;
        done.unwrap_or(Ok(ExitCode::from(INTERRUPTED)))
    }

    /// Starts a RabbitMQ of the run's own.
    pub(crate) async fn broker(&self) -> Result<PrivateBroker> {
        start_broker(&self.target_dir, self.server_dirs("rabbitmq")?, &self.ledger, self.steps)
            .await
    }

    /// Starts a MongoDB of the run's own, its files in the directory `name`.
    pub(crate) async fn mongod(&self, name: &str, replica_set: bool) -> Result<PrivateMongod> {
        let dirs = self.server_dirs(name)?;
        start_mongod(&self.target_dir, dirs, replica_set, &self.ledger, self.steps).await
    }

    /// Returns the variables by which testkit finds the services and the servers' programs. Installs what is missing.
    pub(crate) async fn programs(&self, bin_dir: &Path) -> Result<Vec<(&'static str, PathBuf)>> {
        Ok(vec![
            (settings::BIN_DIR, bin_dir.to_owned()),
            (settings::RABBITMQ_SERVER, provide_rabbitmq(&self.target_dir, &self.steps).await?),
            (settings::MONGOD, provide_mongod(&self.target_dir, &self.steps).await?),
        ])
    }

    /// Starts a program at the head of a process group, to which all that it starts belongs.
    pub(crate) fn start(&self, name: &str, command: Command) -> Result<Running> {
        let running = Running::start(command)?;
        self.ledger.add_pid(Role::Tests, name, running.pid()?)?;
        Ok(running)
    }

    /// Runs a program to its end, and returns its exit code.
    pub(crate) async fn finish(&self, name: &str, command: Command) -> Result<ExitCode> {
        Ok(exit_code(self.start(name, command)?.wait().await?))
    }

    fn server_dirs(&self, name: &str) -> Result<ServerDirs> {
        let logs = self.dir.join(name);
        fs::create_dir_all(&logs).with_context(|| format!("{} cannot be made", logs.display()))?;
        Ok(ServerDirs { data: logs.join("data"), logs })
    }
}

/// Stops and removes runs whose xtask was killed. The names of their directories begin with `prefix`.
async fn sweep(target_dir: &Path, prefix: &str, steps: Steps) {
    let kill = CancellationToken::new();
    kill.cancel();
    for entry in fs::read_dir(target_dir).into_iter().flatten().filter_map(Result::ok) {
        if !entry.file_name().to_string_lossy().starts_with(prefix) {
            continue;
        }
        let Some(record) = read_ledger(&entry.path()) else { continue };
        if !record.owner.is_alive() {
            steps.say(&format!("removing what a killed run left in {}", entry.path().display()));
            stop(record.alive(), &kill, steps).await;
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
