//! Runs of other programs that take so long that the user wants to see their progress.

use std::{
    fs::{File, TryLockError},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{Group, Process, Progress};

/// Time without news after which the program's last line is shown.
const SILENCE: Duration = Duration::from_secs(4);
/// Maximum time of a step on a working network.
const LIMIT: Duration = Duration::from_mins(15);

/// Fate of a program whose caller gives up waiting.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Cancelled {
    /// It is killed: a partial result does no harm.
    Kill,
    /// It runs to its end: killed half way it would leave a broken system.
    LetFinish,
}

/// Runs a program to its end with its output in `log`. An error carries the end of the log.
pub(super) async fn run(
    what: &str,
    command: Command,
    log: &Path,
    cancelled: Cancelled,
    progress: &dyn Progress,
) -> Result<()> {
    let begun = Instant::now();
    let process = Guard(Some(Process::spawn(what, command, log, Group::Own)?), cancelled);
    let Some(process) = &process.0 else { bail!("{what}: no process") };
    let mut reported = Instant::now();
    let status = loop {
        if let Some(status) = process.try_exit()? {
            break status;
        }
        if begun.elapsed() > LIMIT {
            bail!("{what} has not ended within {LIMIT:?}\n{}", process.log_tail());
        }
        if reported.elapsed() > SILENCE {
            let text = process.log_text();
            let last =
                text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no output yet");
            progress.say(&format!("{what}, {} s so far: {last}", begun.elapsed().as_secs()));
            reported = Instant::now();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    if !status.success() {
        bail!("{what} failed ({status})\n{}", process.log_tail());
    }
    Ok(())
}

/// Takes a file lock that other installations respect, until it is dropped.
pub(super) async fn lock(file: &Path, progress: &dyn Progress) -> Result<File> {
    let lock =
        File::create(file).with_context(|| format!("{} cannot be written", file.display()))?;
    let mut told = false;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("{} cannot be locked", file.display()));
            }
        }
        if !told {
            progress.say("another run is installing the same program: waiting for it");
            told = true;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

struct Guard(Option<Process>, Cancelled);

impl Drop for Guard {
    fn drop(&mut self) {
        if let (Some(process), Cancelled::LetFinish) = (self.0.take(), self.1) {
            process.detach();
        }
    }
}
