//! `storage-worker import`: stores the messages that the FastAPI service left behind.
//!
//! A document's new id depends on its old one alone, and a message that is stored stays as it is. So an
//! import can be repeated, and one that was interrupted goes on when it is repeated: it passes over what
//! it finds imported, many times faster than it imports.

mod batch;
mod files;
mod progress;

use std::{path::PathBuf, pin::pin, time::Duration};

use anyhow::{Context, bail};
use clap::Args;
use futures_util::{FutureExt, StreamExt, stream};
use service::{ConfigError, Shutdown};
use store::{
    DatabaseName, MongoUri, SourceCollection, SourceError, SourceUri, Store, StoreConfig,
    StoreSettings,
};

use batch::Importer;
use files::OutputFiles;
use progress::Progress;

/// Number of batches that are imported at once. More do not make MongoDB faster.
const BATCHES_IN_FLIGHT: usize = 4;

/// Maximum number of concurrent operations on each of both databases.
const MAX_STORE_CONNECTIONS: u32 = 8;

/// Timeout of each operation: of a batch on a slow disk, or of making the indexes.
const STORE_TIMEOUT: Duration = Duration::from_mins(1);

/// Settings of an import.
#[derive(Args, Clone, Debug)]
pub struct ImportCommand {
    /// Collection that has the documents
    #[arg(long, value_name = "NAME")]
    from_collection: String,
    /// Server that has the collection, as a MongoDB connection string [default: `MONGO_URI`]
    #[arg(long, env = "IMPORT_FROM_URI", value_name = "IMPORT_FROM_URI", hide_env_values = true)]
    from_uri: Option<SourceUri>,
    /// Database that has the collection [default: the one in the connection string, else `MONGO_DATABASE`]
    #[arg(long, value_name = "NAME")]
    from_database: Option<DatabaseName>,
    /// Checks all documents and writes both files, but nothing to the database
    #[arg(long)]
    dry_run: bool,
    /// File for the documents that cannot be imported, with the reasons, as JSON lines
    #[arg(long, value_name = "FILE", default_value = "import-rejects.jsonl")]
    rejects: PathBuf,
    /// File for the old and the new id of each document, as JSON lines
    #[arg(long, value_name = "FILE", default_value = "import-mapping.jsonl")]
    mapping: PathBuf,
}

/// Runs the import until it is done or the process is asked to stop.
pub(crate) async fn run(
    config: &StoreConfig,
    command: &ImportCommand,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let target = open(config.clone(), "MONGO_URI").await?;
    let source = open(command.source(config), "--from-uri").await?;
    let source = SourceCollection::open(source, &command.from_collection, &target).await;
    let source = source.map_err(|error| match error {
        SourceError::Store(_) => anyhow::Error::new(error),
        wrong => ConfigError::new("--from-collection", wrong).into(),
    })?;
    let mut files = OutputFiles::create(&command.rejects, &command.mapping)?;
    let total = source.count().await.context("cannot read from the source")?;
    if !command.dry_run {
        target.ensure_indexes().await.context("cannot make the indexes of the target")?;
    }
    let mut progress = Progress::new(total, command.dry_run);
    let imported = import(&source, target, &mut files, &mut progress, shutdown).await;
    let finished = files.finish();
    progress.finish(&source.name(), command);
    imported.and(finished)?;
    if shutdown.requested().now_or_never().is_some() {
        bail!("interrupted; what is imported stays, and the same command goes on from there");
    }
    match progress.rejected() {
        0 => Ok(()),
        rejected => bail!(
            "{rejected} documents are not imported; {} says why. Correct them in the source and import again",
            command.rejects.display()
        ),
    }
}

/// Imports batch after batch. After a request to stop, the batches in flight still end.
async fn import(
    source: &SourceCollection,
    target: Store,
    files: &mut OutputFiles,
    progress: &mut Progress,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let importer = Importer::new(target, progress.is_dry_run(), shutdown.clone());
    let batches = stream::unfold(source.read(), async |mut documents| {
        Some((documents.recv().await?, documents))
    });
    let stop = pin!(shutdown.requested());
    let importing = batches.take_until(stop).map(|documents| {
        let importer = importer.clone();
        let task = tokio::spawn(async move {
            importer.import(documents.context("cannot read from the source")?).await
        });
        async { task.await.context("a batch panicked")? }
    });
    let mut importing = pin!(importing.buffered(BATCHES_IN_FLIGHT));
    let mut ticks = progress.ticks();
    loop {
        let batch = tokio::select! {
            batch = importing.next() => batch,
            _ = ticks.tick() => {
                progress.print();
                continue;
            }
        };
        let Some(batch) = batch else { return Ok(()) };
        let batch = batch?;
        // It is stored, also if the files cannot be written.
        let written = files.append(&batch);
        progress.add(batch);
        written?;
    }
}

impl ImportCommand {
    /// Returns what has no effect.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = String> {
        let source = self.from_uri.iter();
        source.flat_map(|uri| uri.warnings("--from-uri (IMPORT_FROM_URI)"))
    }

    fn source(&self, target: &StoreConfig) -> StoreConfig {
        let given = self.from_uri.as_ref().map(SourceUri::uri);
        let uri = given.unwrap_or(&target.uri).clone();
        let named = given.and_then(MongoUri::database);
        let named = || named.and_then(|name| name.parse().ok());
        let database = self.from_database.clone().or_else(named);
        StoreConfig { uri, database: database.unwrap_or_else(|| target.database.clone()) }
    }
}

async fn open(config: StoreConfig, setting: &'static str) -> anyhow::Result<Store> {
    let settings = StoreSettings {
        max_connections: MAX_STORE_CONNECTIONS,
        operation_timeout: STORE_TIMEOUT,
        ..StoreSettings::new(config, "import")
    };
    Ok(Store::new(settings).await.map_err(|error| ConfigError::new(setting, error))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_is_in_the_database_that_is_named_closest_to_it() {
        let target =
            StoreConfig { uri: "mongodb://target".parse().unwrap(), database: name("target") };
        for (uri, database, expected) in [
            (None, None, "target"),
            (None, Some("flag"), "flag"),
            (Some("mongodb://source"), None, "target"),
            (Some("mongodb://source/path"), None, "path"),
            (Some("mongodb://source/path"), Some("flag"), "flag"),
        ] {
            let command = ImportCommand {
                from_collection: "old".to_owned(),
                from_uri: uri.map(|uri| uri.parse().unwrap()),
                from_database: database.map(name),
                dry_run: false,
                rejects: PathBuf::new(),
                mapping: PathBuf::new(),
            };
            let found = format!("{:?}", command.source(&target).database);
            assert_eq!(found, format!("{:?}", name(expected)), "{uri:?} {database:?}");
        }
    }

    fn name(text: &str) -> DatabaseName {
        text.parse().unwrap()
    }
}
