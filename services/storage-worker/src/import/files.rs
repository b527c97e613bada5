//! The two files that an import writes: the rejected documents, and the ids. A repeated import writes
//! them anew, so that they always tell of the whole source.

use std::{
    fs::{File, OpenOptions},
    io::{BufWriter, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
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
    setting: &'static str,
    path: PathBuf,
    /// Device and inode; `None` if it is no regular file.
    inode: Option<(u64, u64)>,
    writer: BufWriter<File>,
}

impl OutputFiles {
    /// Makes both files, empty.
    pub(super) fn create(rejects: &Path, mapping: &Path) -> Result<Self, ConfigError> {
        let rejects = OutputFile::open("--rejects", rejects)?;
        let mapping = OutputFile::open("--mapping", mapping)?;
        // One file has many paths. What is no file, such as /dev/null, may take both.
        if rejects.inode.is_some() && rejects.inode == mapping.inode {
            return Err(ConfigError::new("--mapping", "must be another file than --rejects"));
        }
        Ok(Self { rejects: rejects.empty()?, mapping: mapping.empty()? })
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
    /// Opens a file, and leaves it as it is.
    fn open(setting: &'static str, path: &Path) -> Result<Self, ConfigError> {
        let opened = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            // Messages are private.
            .mode(0o600)
            .open(path);
        let opened = opened.and_then(|file| Ok((file.metadata()?, file)));
        let (metadata, file) = opened.map_err(|error| unwritable(setting, path, &error))?;
        let inode = metadata.is_file().then(|| (metadata.dev(), metadata.ino()));
        Ok(Self { setting, path: path.to_owned(), inode, writer: BufWriter::new(file) })
    }

    fn empty(self) -> Result<Self, ConfigError> {
        if self.inode.is_some() {
            let emptied = self.writer.get_ref().set_len(0);
            emptied.map_err(|error| unwritable(self.setting, &self.path, &error))?;
        }
        Ok(self)
    }

    fn write(
        &mut self,
        write: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>,
    ) -> anyhow::Result<()> {
        write(&mut self.writer).with_context(|| format!("cannot write {}", self.path.display()))
    }
}

fn unwritable(setting: &'static str, path: &Path, error: &std::io::Error) -> ConfigError {
    ConfigError::new(setting, format!("{} cannot be written: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn one_file_under_two_paths_is_refused_and_stays_as_it_is() {
        let dir = std::env::temp_dir().join(format!("import-files-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = |name: &str| dir.join(name);
        fs::write(path("a"), "kept").unwrap();
        fs::hard_link(path("a"), path("hard")).unwrap();
        symlink(path("a"), path("soft")).unwrap();
        for other in [path("a"), dir.join(".").join("a"), path("hard"), path("soft")] {
            let refused = OutputFiles::create(&path("a"), &other).err().unwrap();
            let refused = telemetry::error_chain(&refused).to_string();
            assert!(refused.contains("another file"), "{refused}");
            assert_eq!(fs::read_to_string(path("a")).unwrap(), "kept");
        }
        assert!(OutputFiles::create(&path("a"), &path("b")).is_ok());
        assert_eq!(fs::read_to_string(path("a")).unwrap(), "");
        assert_eq!(fs::metadata(path("b")).unwrap().mode() & 0o077, 0, "others can read it");
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn what_is_no_file_may_take_both() {
        let null = Path::new("/dev/null");
        assert!(OutputFiles::create(null, null).is_ok());
    }
}
