//! The ledger: every process of a stack from its start on, and the xtask that owns them.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use testkit::{Process, ProcessId};

/// Roles of processes, in the order in which a stack stops them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// Cargo with the tests, at the head of a process group that ends as a whole.
    Tests,
    Gateway,
    /// Storage-workers and broadcasters.
    Backend,
    Broker,
    Database,
    PortMapper,
}

impl Role {
    /// All of them, in the order in which they stop.
    pub(crate) const ALL: [Self; 6] =
        [Self::Tests, Self::Gateway, Self::Backend, Self::Broker, Self::Database, Self::PortMapper];
}

/// One process of a stack.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) id: ProcessId,
}

/// Content of the ledger's file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The xtask that started the processes. It has ended if they are detached or orphaned.
    pub(crate) owner: ProcessId,
    pub(crate) processes: Vec<Entry>,
}

impl Record {
    /// Returns the processes that still run, in the order in which they stop.
    pub(crate) fn alive(&self) -> Vec<Entry> {
        let mut alive: Vec<Entry> =
            self.processes.iter().filter(|entry| entry.id.is_alive()).cloned().collect();
        alive.sort_by_key(|entry| entry.role);
        alive
    }
}

/// The ledger of the stack that this xtask starts.
#[derive(Debug)]
pub(crate) struct Ledger {
    file: PathBuf,
    record: Mutex<Record>,
}

impl Ledger {
    /// Opens an empty one in the stack's directory.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let owner = ProcessId::of(std::process::id())
            .context("this process is not in the process table")?;
        let ledger =
            Self { file: file(dir), record: Mutex::new(Record { owner, processes: Vec::new() }) };
        ledger.change(|_| {})?;
        Ok(ledger)
    }

    /// Adds a new process.
    pub(crate) fn add(&self, role: Role, process: &Process) -> Result<()> {
        self.add_pid(role, process.name(), process.pid())
    }

    /// Adds a new process that is not a [`Process`].
    pub(crate) fn add_pid(&self, role: Role, name: &str, pid: u32) -> Result<()> {
        // One that has ended already needs no stopping; the caller that waits for it notices.
        let Some(id) = ProcessId::of(pid) else { return Ok(()) };
        self.change(|record| {
            record.processes.push(Entry { name: name.to_owned(), role, id });
        })
    }

    /// Returns the processes that still run.
    pub(crate) fn alive(&self) -> Vec<Entry> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).alive()
    }

    fn change(&self, change: impl FnOnce(&mut Record)) -> Result<()> {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut record);
        super::write_atomically(&self.file, &serde_json::to_string(&*record)?)
    }
}

/// Reads the ledger that an xtask left in a stack's directory; none where there is no stack.
pub(crate) fn read_ledger(dir: &Path) -> Option<Record> {
    serde_json::from_str(&fs::read_to_string(file(dir)).ok()?).ok()
}

/// Removes the ledger from a stack's directory, once nothing of it runs.
pub(crate) fn remove_ledger(dir: &Path) {
    let _ = fs::remove_file(file(dir));
}

fn file(dir: &Path) -> PathBuf {
    dir.join("processes.json")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use testkit::Group;

    use super::*;

    #[test]
    fn a_process_in_the_ledger_is_found_alive_until_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path()).unwrap();
        let mut command = Command::new("sleep");
        command.arg("60");
        let process =
            Process::spawn("sleeper", command, &dir.path().join("log"), Group::Own).unwrap();
        ledger.add(Role::Backend, &process).unwrap();

        let record = read_ledger(dir.path()).unwrap();
        assert_eq!(record.owner.pid, std::process::id());
        assert_eq!(record.alive().len(), 1);
        process.kill().unwrap();
        assert!(record.alive().is_empty());
        remove_ledger(dir.path());
        assert!(read_ledger(dir.path()).is_none());
    }

    #[test]
    fn a_later_process_with_the_same_pid_is_not_mistaken_for_the_recorded_one() {
        let mut id = ProcessId::of(std::process::id()).unwrap();
        assert!(id.is_alive());
        id.started.push('0');
        assert!(!id.is_alive());
    }
}
