//! Importing one batch of documents.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context;
use broker::Backoff;
use serde::Serialize;
use serde_json::value::RawValue;
use service::Shutdown;
use store::{FieldProblem, ImportOutcome, LegacyDocument, LegacyMessage, Store, StoreError};
use telemetry::OutageLog;
use tokio::time::Instant;

/// Time for which a batch is retried while MongoDB fails.
const RETRY_LIMIT: Duration = Duration::from_mins(1);

/// Maximum number of characters of a field's name in the summary.
const MAX_NAME_CHARACTERS: usize = 40;

/// Imports batches. Cheap to clone.
#[derive(Clone)]
pub(super) struct Importer {
    target: Store,
    dry_run: bool,
    shutdown: Shutdown,
    /// Of all batches in flight.
    outage: Arc<OutageLog>,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub(super) struct ImportedBatch {
    pub(super) imported: u64,
    pub(super) already_imported: u64,
    pub(super) rejected: u64,
    /// Names of the fields that were left out, with the number of documents that have them.
    pub(super) other_fields: BTreeMap<String, u64>,
    /// Lines for the file of rejects.
    pub(super) rejects: Vec<u8>,
    /// Lines for the file of ids.
    pub(super) mapping: Vec<u8>,
}

/// Line of the file of rejects.
#[derive(Serialize)]
struct Reject<'a> {
    reasons: &'a [FieldProblem],
    /// `None` if a text in it is not UTF-8.
    document: Option<Box<RawValue>>,
}

/// Line of the file of ids.
#[derive(Serialize)]
struct Mapping<'a> {
    old_id: &'a str,
    old_id_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    old_public_id: Option<&'a str>,
    new_id: String,
}

impl Importer {
    pub(super) fn new(target: Store, dry_run: bool, shutdown: Shutdown) -> Self {
        let outage = Arc::new(OutageLog::new("import a batch"));
        Self { target, dry_run, shutdown, outage }
    }

    pub(super) async fn import(
        &self,
        documents: Vec<LegacyDocument>,
    ) -> anyhow::Result<ImportedBatch> {
        let mut batch = ImportedBatch::default();
        let mut messages = Vec::with_capacity(documents.len());
        let mut readable = Vec::with_capacity(documents.len());
        for document in &documents {
            match document.message() {
                Ok(message) => {
                    messages.push(message);
                    readable.push(document);
                }
                Err(reasons) => batch.reject(document, &reasons)?,
            }
            batch.count_other_fields(document);
        }
        let outcomes = self.store(&messages).await.context("cannot import a batch")?;
        for ((message, document), outcome) in messages.iter().zip(readable).zip(outcomes) {
            let problem = match outcome {
                ImportOutcome::Imported => {
                    batch.imported += 1;
                    batch.map(message)?;
                    continue;
                }
                ImportOutcome::AlreadyImported => {
                    batch.already_imported += 1;
                    batch.map(message)?;
                    continue;
                }
                ImportOutcome::Conflict => format!(
                    "the message {} was imported with another sender, recipient or content: from another \
                     collection, or before this document was changed",
                    message.message_id
                ),
                ImportOutcome::Refused(code) => {
                    format!("MongoDB refused the message with the error code {code}")
                }
            };
            batch.reject(document, &[FieldProblem { field: "_id", problem }])?;
        }
        Ok(batch)
    }

    /// Stores messages. Repeats that for a while if MongoDB fails: a new primary takes some seconds.
    async fn store(&self, messages: &[LegacyMessage]) -> Result<Vec<ImportOutcome>, StoreError> {
        let mut backoff = Backoff::default();
        let begun = Instant::now();
        loop {
            let error = match self.target.import_many(messages, self.dry_run).await {
                Err(error) if !error.is_permanent() && begun.elapsed() < RETRY_LIMIT => error,
                done => {
                    if done.is_ok() {
                        self.outage.succeeded();
                    }
                    return done;
                }
            };
            self.outage.failed(&error);
            tokio::select! {
                () = backoff.pause() => {}
                () = self.shutdown.requested() => return Err(error),
            }
        }
    }
}

impl ImportedBatch {
    fn reject(
        &mut self,
        document: &LegacyDocument,
        reasons: &[FieldProblem],
    ) -> serde_json::Result<()> {
        self.rejected += 1;
        let document = serde_json::value::to_raw_value(document).ok();
        append(&mut self.rejects, &Reject { reasons, document })
    }

    fn map(&mut self, message: &LegacyMessage) -> serde_json::Result<()> {
        let mapping = Mapping {
            old_id: message.old_id.text(),
            old_id_type: message.old_id.kind(),
            old_public_id: message.public_id.as_ref().map(store::LegacyId::text),
            new_id: message.message_id.to_string(),
        };
        append(&mut self.mapping, &mapping)
    }

    fn count_other_fields(&mut self, document: &LegacyDocument) {
        for name in document.other_fields() {
            // Anyone may have written the name, and a terminal must not act on it.
            let name: String = name.escape_debug().take(MAX_NAME_CHARACTERS).collect();
            *self.other_fields.entry(name).or_default() += 1;
        }
    }
}

fn append(lines: &mut Vec<u8>, line: &impl Serialize) -> serde_json::Result<()> {
    serde_json::to_writer(&mut *lines, line)?;
    lines.push(b'\n');
    Ok(())
}
