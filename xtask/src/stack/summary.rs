//! `stack.json`: the running servers and their addresses, for people and scripts.

use std::{fs, io, path::Path};

use anyhow::{Context, Result};
use serde::Serialize;

/// Content of `stack.json`.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) gateways: Vec<Server>,
    pub(crate) storage_workers: Vec<Server>,
    pub(crate) broadcasters: Vec<Server>,
    pub(crate) rabbitmq: Server,
    pub(crate) mongod: Server,
}

/// One server: its URL, and its own process id where it is ours.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) pid: Option<u32>,
}

impl Summary {
    /// Writes it into the stack's directory.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        super::write_atomically(&dir.join("stack.json"), &serde_json::to_string(self)?)
    }

    /// Removes it from the stack's directory. Fine if it is not there.
    pub(crate) fn remove(dir: &Path) -> Result<()> {
        let path = dir.join("stack.json");
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("{} cannot be removed", path.display()))
            }
            _ => Ok(()),
        }
    }
}
