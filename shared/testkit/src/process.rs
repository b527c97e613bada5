//! One child process: started with its output in a file, signalled, awaited, killed on drop.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

/// Pause between two looks at whether a process has ended.
const PAUSE: Duration = Duration::from_millis(20);
/// Bytes at the end of a log that are read to show its last lines.
const TAIL_BYTES: u64 = 16 * 1024;

/// Process group of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// The caller's: who ends the caller's group ends the child too.
    Callers,
    /// One of its own: a terminal's Ctrl-C does not reach it.
    Own,
}

/// A process that cannot be confused with a later one of the same pid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// The process id.
    pub pid: u32,
    /// Start time as the system writes it; only compared.
    pub started: String,
}

/// Maximum time for a process to stop.
const FREEZE_LIMIT: Duration = Duration::from_secs(10);

impl ProcessId {
    /// The process that has this pid now; none where it is gone or a zombie.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let started = if Path::new("/proc/self/stat").exists() {
            started_by_proc(pid)
        } else {
            started_by_ps(pid)
        };
        started.map(|started| Self { pid, started })
    }

    /// Returns true while it runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }

    /// Sends a signal if it still runs.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        if self.is_alive() { send(self.pid, signal) } else { Ok(()) }
    }

    /// Sends a signal to the process group that it leads, if it still runs.
    pub fn signal_group(&self, signal: Signal) -> Result<()> {
        if !self.is_alive() {
            return Ok(());
        }
        signal::killpg(Pid::from_raw(self.pid.try_into()?), signal)
            .with_context(|| format!("{signal} cannot be sent to the group of {}", self.pid))
    }

    /// Waits until it is gone; false if it still runs after `within`.
    pub async fn gone(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        while self.is_alive() {
            if Instant::now() > deadline {
                return false;
            }
            tokio::time::sleep(PAUSE).await;
        }
        true
    }
}

/// A running child, or one that has ended and is not forgotten yet. Killed on drop.
pub struct Process {
    name: String,
    pid: u32,
    child: Mutex<Child>,
    log: PathBuf,
    log_start: u64,
    detached: bool,
}

impl Process {
    /// Starts `command` with nothing to read and its output appended to the file `log`.
    pub fn spawn(name: &str, mut command: Command, log: &Path, group: Group) -> Result<Self> {
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("{} cannot be written", log.display()))?;
        let log_start = output.metadata()?.len();
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        if group == Group::Own {
            command.process_group(0);
        }
        let child = command.spawn().with_context(|| {
            format!("{name} cannot be started ({})", command.get_program().display())
        })?;
        Ok(Self {
            name: name.to_owned(),
            pid: child.id(),
            child: Mutex::new(child),
            log: log.to_owned(),
            log_start,
            detached: false,
        })
    }

    /// Returns its name in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The file that has its output.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Returns its output since its start.
    #[must_use]
    pub fn log_text(&self) -> String {
        read_from(&self.log, self.log_start).unwrap_or_default()
    }

    /// The last lines of its log, under a heading.
    #[must_use]
    pub fn log_tail(&self) -> String {
        log_tail(&self.name, &self.log)
    }

    /// Returns its exit status, if it has ended.
    pub fn try_exit(&self) -> Result<Option<ExitStatus>> {
        self.child().try_wait().with_context(|| format!("{} cannot be asked", self.name))
    }

    /// Waits for its end without asking for it.
    pub async fn exited(&self, within: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.try_exit()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("{} has not ended within {within:?}\n{}", self.name, self.log_tail());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Sends a signal; does nothing if it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        // An unreaped child keeps its pid, so the pid is this child's as long as it has not ended.
        let mut child = self.child();
        if child.try_wait()?.is_none() { send(self.pid, signal) } else { Ok(()) }
    }

    /// Asks it to end (`SIGTERM`) and waits. Past the deadline it is killed, which is an error.
    pub async fn terminate(&self, within: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.signal(Signal::SIGCONT)?;
        let ended = self.exited(within).await;
        if ended.is_err() {
            self.kill()?;
        }
        ended
    }

    /// Kills it (`SIGKILL`) and takes its status, so that nothing of it is left.
    pub fn kill(&self) -> Result<()> {
        let mut child = self.child();
        child
            .kill()
            .and_then(|()| child.wait())
            .with_context(|| format!("{} cannot be killed", self.name))?;
        Ok(())
    }

    /// Freezes it (`SIGSTOP`): its sockets stay open, and it does not answer. On a busy machine its threads run
    /// on for a moment after the signal; when this returns all have stopped.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        let deadline = Instant::now() + FREEZE_LIMIT;
        while any_thread_runs(self.pid) {
            ensure!(Instant::now() < deadline, "{} does not stop", self.name);
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Lets it go on after [`Process::freeze`].
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Lets it outlive this value and the caller.
    pub fn detach(mut self) {
        self.detached = true;
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.detached {
            // Nothing can be done about a failure here, and an ended child cannot fail.
            let _ = self.kill();
        }
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

/// The last 25 lines of a log file, under a heading.
#[must_use]
pub fn log_tail(name: &str, log: &Path) -> String {
    let length = log.metadata().map_or(0, |metadata| metadata.len());
    let text = read_from(log, length.saturating_sub(TAIL_BYTES)).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.get(lines.len().saturating_sub(25)..).unwrap_or_default();
    format!("--- end of the log of {name} ({}):\n{}\n---", log.display(), last.join("\n"))
}

fn read_from(log: &Path, offset: u64) -> Result<String> {
    let mut file = File::open(log)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn send(pid: u32, signal: Signal) -> Result<()> {
    signal::kill(Pid::from_raw(pid.try_into()?), signal)
        .with_context(|| format!("{signal} cannot be sent to {pid}"))
}

/// Field 22 of `/proc/{pid}/stat`; the name in field 2 may hold anything, so count from its end.
fn started_by_proc(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if state == "Z" { None } else { fields.nth(18).map(str::to_owned) }
}

fn started_by_ps(pid: u32) -> Option<String> {
    let output =
        Command::new("ps").args(["-o", "lstart=", "-p", &pid.to_string()]).output().ok()?;
    let started = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (!started.is_empty()).then_some(started)
}

/// Returns true if a thread of the process is neither stopped nor ended; false where the system does not tell.
fn any_thread_runs(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.flatten().any(|thread| {
        // The state follows the name, which is in parentheses and may have some itself.
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
        state.is_some_and(|state| !matches!(state, 'T' | 'Z' | 'X'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(dir: &tempfile::TempDir) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", "echo begun; exec sleep 60"]);
        Process::spawn("sleeper", command, &dir.path().join("log"), Group::Callers).unwrap()
    }

    #[tokio::test]
    async fn a_dropped_process_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let process = sleeper(&dir);
        let id = ProcessId::of(process.pid()).unwrap();
        assert!(id.is_alive());
        drop(process);
        assert!(!id.is_alive());
    }

    #[tokio::test]
    async fn a_frozen_process_can_be_terminated() {
        let dir = tempfile::tempdir().unwrap();
        let process = sleeper(&dir);
        process.freeze().unwrap();
        let status = process.terminate(Duration::from_secs(5)).await.unwrap();
        assert!(!status.success());
    }

    #[tokio::test]
    async fn a_detached_process_lives_on() {
        let dir = tempfile::tempdir().unwrap();
        let process = sleeper(&dir);
        let id = ProcessId::of(process.pid()).unwrap();
        process.detach();
        assert!(id.is_alive());
        id.signal(Signal::SIGKILL).unwrap();
        assert!(id.gone(Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn the_log_has_what_it_wrote() {
        let dir = tempfile::tempdir().unwrap();
        let process = sleeper(&dir);
        crate::eventually("its first line", Duration::from_secs(5), async || {
            process.log_text().contains("begun")
        })
        .await;
        assert!(process.log_tail().contains("begun"));
    }
}
