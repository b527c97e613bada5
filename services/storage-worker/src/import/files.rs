//! The two files that an import writes: the rejected documents, and the ids. A repeated import writes
//! them anew, so that they always tell of the whole source.

use std::{
    fs::{File, OpenOptions},
    io::{BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use service::ConfigError;

use super::batch::ImportedBatch;

/// Both files.
pub(super) struct OutputFiles {
    rejects: OutputFile,
    mapping: OutputFile,
}

struct OutputFile {
    path: PathBuf,
    writer: BufWriter<File>,
}

impl OutputFiles {
    /// Makes both files, empty.
    pub(super) fn create(rejects: &Path, mapping: &Path) -> Result<Self, ConfigError> {
        if rejects == mapping {
            return Err(ConfigError::new("--mapping", "must be another file than --rejects"));
        }
        Ok(Self {
            rejects: OutputFile::create("--rejects", rejects)?,
            mapping: OutputFile::create("--mapping", mapping)?,
        })
    }

    pub(super) fn append(&mut self, batch: &ImportedBatch) -> anyhow::Result<()> {
        self.rejects.write(|writer| writer.write_all(&batch.rejects))?;
        self.mapping.write(|writer| writer.write_all(&batch.mapping))
    }

    /// Writes what is still in memory to the disk.
    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        for file in [&mut self.rejects, &mut self.mapping] {
            file.write(|writer| {
                writer.flush()?;
                // A pipe or a terminal has nothing to synchronize.
                let _ = writer.get_ref().sync_all();
                Ok(())
            })?;
        }
        Ok(())
    }
}

impl OutputFile {
    fn create(setting: &'static str, path: &Path) -> Result<Self, ConfigError> {
        // Messages are private.
        let opened =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
        let file = opened.map_err(|error| {
            let reason = format!("{} cannot be written: {error}", path.display());
            ConfigError::new(setting, reason)
        })?;
        Ok(Self { path: path.to_owned(), writer: BufWriter::new(file) })
    }

    fn write(
        &mut self,
        write: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>,
    ) -> anyhow::Result<()> {
        write(&mut self.writer).with_context(|| format!("cannot write {}", self.path.display()))
    }
}
