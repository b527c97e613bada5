//! A running stack as files in its directory: `stack.json` for people and scripts, and the ledger of its
//! processes, by which a later xtask can stop them.

mod ledger;
mod stop;
mod summary;

pub(crate) use ledger::{Entry, Ledger, Role, read_ledger, remove_ledger};
pub(crate) use stop::stop;
pub(crate) use summary::{Server, Summary};

use std::{fs, path::Path};

use anyhow::{Context, Result};

/// Writes a file in one step: a reader sees all of it or nothing.
pub(crate) fn write_atomically(path: &Path, content: &str) -> Result<()> {
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, content)
        .and_then(|()| fs::rename(&temporary, path))
        .with_context(|| format!("{} cannot be written", path.display()))
}
