//! One of the real services as a child process, with its settings in the environment.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::{Command, ExitStatus, Output},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{Api, Group, Process, free_port};

/// Longest wait for a service's address, and then for its readiness.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Variables that a service inherits. All others are set by its builder.
const INHERITED: [&str; 4] = ["PATH", "LD_LIBRARY_PATH", "LLVM_PROFILE_FILE", "RUST_BACKTRACE"];

/// The services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// REST in, commands out.
    Gateway,
    /// Commands in, writes out.
    StorageWorker,
    /// Random sample and WebSocket sessions.
    Broadcaster,
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Gateway, Self::StorageWorker, Self::Broadcaster];

    /// The name of its binary.
    #[must_use]
    pub fn binary(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::StorageWorker => "storage-worker",
            Self::Broadcaster => "broadcaster",
        }
    }

    /// The variable that says where it listens.
    #[must_use]
    pub fn bind_variable(self) -> &'static str {
        match self {
            Self::Gateway => "GATEWAY_BIND",
            Self::StorageWorker => "STORAGE_WORKER_BIND",
            Self::Broadcaster => "BROADCASTER_BIND",
        }
    }
}

/// A service that is about to start: where from, with which settings.
#[derive(Clone, Debug)]
#[must_use = "nothing runs until it is started"]
pub struct ServiceBuilder {
    service: Service,
    binary: PathBuf,
    log_dir: PathBuf,
    arguments: Vec<String>,
    settings: BTreeMap<String, String>,
}

impl ServiceBuilder {
    /// A service from the binaries in `bin_dir` that writes its log to `log_dir`.
    pub fn new(service: Service, bin_dir: impl Into<PathBuf>, log_dir: impl Into<PathBuf>) -> Self {
        let settings = [
            (service.bind_variable(), "127.0.0.1:0"),
            ("LOG_FORMAT", "json"),
            ("DRAIN_DELAY_MS", "0"),
        ];
        Self {
            service,
            binary: bin_dir.into().join(service.binary()),
            log_dir: log_dir.into(),
            arguments: Vec::new(),
            settings: settings.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        }
    }

    /// Runs another program in its place, one that takes the same settings.
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.binary = path.into();
        self
    }

    /// Sets an environment variable.
    #[expect(clippy::needless_pass_by_value, reason = "literals and numbers read best without `&`")]
    pub fn env(mut self, key: &str, value: impl ToString) -> Self {
        self.settings.insert(key.to_owned(), value.to_string());
        self
    }

    /// Leaves an environment variable unset, so that the service's default counts.
    pub fn env_remove(mut self, key: &str) -> Self {
        self.settings.remove(key);
        self
    }

    /// Lets it listen on a port that stays its own while it is down: one of those that systems give
    /// out may be another process's by the time of [`ServiceProcess::restart`].
    pub fn on_own_port(self) -> Result<Self> {
        let variable = self.service.bind_variable();
        Ok(self.env(variable, format!("127.0.0.1:{}", free_port()?)))
    }

    /// Adds a command-line argument.
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Starts it and waits until `/readyz` answers 200.
    pub async fn start(self) -> Result<ServiceProcess> {
        let process = self.start_unready().await?;
        process.ready().await?;
        Ok(process)
    }

    /// Starts it and waits only until it listens.
    pub async fn start_unready(self) -> Result<ServiceProcess> {
        let process = self.spawn()?;
        let address = address(&process).await?;
        Ok(ServiceProcess { process, address, builder: self })
    }

    /// Runs it to its end, for a command or bad settings: its exit status and output.
    pub async fn output(self, within: Duration) -> Result<Output> {
        let mut command = tokio::process::Command::from(self.command());
        let output = command.kill_on_drop(true).output();
        let name = self.service.binary();
        tokio::time::timeout(within, output)
            .await
            .with_context(|| format!("{name} has not ended within {within:?}"))?
            .with_context(|| format!("{name} cannot be started"))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.env_clear();
        command.envs(INHERITED.iter().filter_map(|key| Some((key, std::env::var_os(key)?))));
        command.envs(&self.settings).args(&self.arguments);
        command
    }

    /// Starts it and waits for nothing, for a command that is stopped half way.
    pub fn spawn(&self) -> Result<Process> {
        static STARTED: AtomicU32 = AtomicU32::new(1);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = self.service.binary();
        let log = self.log_dir.join(format!("{name}-{number}.log"));
        Process::spawn(name, self.command(), &log, Group::Callers)
    }
}

/// A running service. Killed on drop; if the test panics its last log lines are printed.
#[derive(Debug)]
pub struct ServiceProcess {
    process: Process,
    address: String,
    builder: ServiceBuilder,
}

impl ServiceProcess {
    /// Its base URL, `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The URL of a WebSocket path on it, `ws://127.0.0.1:PORT{path}`.
    #[must_use]
    pub fn websocket_url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.address)
    }

    /// Returns its address, `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// An HTTP client of it.
    pub fn api(&self) -> Result<Api> {
        Api::new(&self.url())
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Returns its log, one JSON object a line.
    #[must_use]
    pub fn log_text(&self) -> String {
        self.process.log_text()
    }

    /// Waits until `/readyz` answers 200.
    pub async fn ready(&self) -> Result<()> {
        let api = self.api()?;
        let begun = Instant::now();
        let mut last = "no answer".to_owned();
        while begun.elapsed() < START_LIMIT {
            self.still_runs()?;
            match api.get("/readyz").await {
                Ok(answer) if answer.status == 200 => return Ok(()),
                Ok(answer) => last = format!("{} {}", answer.status, answer.text),
                Err(error) => last = format!("{error:#}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!(
            "{:?} is not ready after {START_LIMIT:?}: {last}\n{}",
            self.process,
            self.process.log_tail()
        )
    }

    /// Asks it to end (`SIGTERM`) and waits for that. Past the deadline it is killed, which is an error.
    pub async fn terminate(&self, within: Duration) -> Result<ExitStatus> {
        self.process.terminate(within).await
    }

    /// Kills it (`SIGKILL`).
    pub fn kill(&self) -> Result<()> {
        self.process.kill()
    }

    /// Freezes it: connections stay open, and it does not answer.
    pub fn freeze(&self) -> Result<()> {
        self.process.freeze()
    }

    /// Lets it go on after [`ServiceProcess::freeze`].
    pub fn thaw(&self) -> Result<()> {
        self.process.thaw()
    }

    /// Starts it again on the same port with the same settings, killing it first where it still
    /// runs, and waits until it is ready.
    pub async fn restart(&mut self) -> Result<()> {
        self.process.kill()?;
        let variable = self.builder.service.bind_variable().to_owned();
        self.builder.settings.insert(variable, self.address.clone());
        self.process = self.builder.spawn()?;
        self.address = address(&self.process).await?;
        self.ready().await
    }

    fn still_runs(&self) -> Result<()> {
        still_runs(&self.process)
    }
}

impl Drop for ServiceProcess {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.process.log_tail());
        }
    }
}

/// Finds the address of a service in its log.
async fn address(process: &Process) -> Result<String> {
    let begun = Instant::now();
    while begun.elapsed() < START_LIMIT {
        if let Some(address) = process.log_text().lines().find_map(listening) {
            return Ok(address);
        }
        still_runs(process)?;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bail!("{process:?} has not said where it listens\n{}", process.log_tail())
}

fn still_runs(process: &Process) -> Result<()> {
    match process.try_exit()? {
        None => Ok(()),
        Some(status) => bail!("{process:?} has ended ({status})\n{}", process.log_tail()),
    }
}

/// The address in a line `{"message":"listening","address":"127.0.0.1:4711",…}`.
fn listening(line: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    let is_it = line.get("message")?.as_str()? == "listening";
    is_it.then(|| line.get("address")?.as_str().map(str::to_owned)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stand-in service: a shell script that logs what a service logs.
    fn stand_in(script: &str) -> (tempfile::TempDir, ServiceBuilder) {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("gateway");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let builder = ServiceBuilder::new(Service::Gateway, dir.path(), dir.path());
        (dir, builder)
    }

    #[tokio::test]
    async fn the_address_is_read_from_the_log() {
        let (_dir, builder) = stand_in(
            "echo starting; echo '{\"level\":\"INFO\",\"message\":\"listening\",\"address\":\"127.0.0.1:4711\"}'; exec sleep 60",
        );
        let service = builder.start_unready().await.unwrap();
        assert_eq!(service.url(), "http://127.0.0.1:4711");
        assert_eq!(service.websocket_url("/api/chat"), "ws://127.0.0.1:4711/api/chat");
    }

    #[tokio::test]
    async fn an_early_exit_shows_the_end_of_the_log() {
        let (_dir, builder) = stand_in("echo 'GATEWAY_BIND is wrong'; exit 78");
        let error = builder.start().await.unwrap_err().to_string();
        assert!(error.contains("78") && error.contains("GATEWAY_BIND is wrong"), "{error}");
    }

    #[tokio::test]
    async fn only_its_own_settings_reach_it() {
        let (_dir, builder) = stand_in("env; exit 3");
        let output =
            builder.env("PREFETCH", 7).env_remove("LOG_FORMAT").output(START_LIMIT).await.unwrap();
        let environment = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(3));
        assert!(
            environment.contains("PREFETCH=7") && environment.contains("GATEWAY_BIND=127.0.0.1:0")
        );
        assert!(!environment.contains("LOG_FORMAT") && !environment.contains("CARGO"));
    }
}
