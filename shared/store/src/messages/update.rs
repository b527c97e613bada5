//! Applying edits and deletions: an update with one statement for each, and if not all of them matched, a read that tells
//! why. Every statement is an operation on one document whose filter holds the conditions under which it applies.

use std::{collections::HashMap, mem};

use contracts::Outcome;
use mongodb::{
    bson::{self, Bson, Document, RawDocumentBuf, doc},
    error::{Error, ErrorKind, WriteError, WriteFailure},
};
use serde::Deserialize;

use super::{
    command::UpdateCommand,
    rules::{Decision, Statement},
};
use crate::{Store, StoreError, convert::bson_uuids};

/// Maximum number of tries of a write whose document keeps changing between read and write.
const MAX_TRIES: usize = 16;

/// Maximum number of tries for many commands together. What needs more is rare, and applied alone.
const MAX_TRIES_TOGETHER: usize = 2;

/// Maximum number of statements in one command. A command has 16 MiB at most, a statement some 17 kB, and
/// 3.6 kB more if it has a precondition of as many versions as one may have.
const MAX_STATEMENTS: usize = 500;

/// A command without an outcome.
struct Open<'a> {
    /// Index of the command.
    index: usize,
    command: &'a UpdateCommand,
    /// What to try next. `None` if the message has to be read first.
    statement: Option<Statement>,
    /// Tells that MongoDB refused a statement of the command.
    refused: bool,
}

/// What the statements of an update met.
struct Updated {
    /// Errors of statements, by index.
    errors: HashMap<usize, StoreError>,
    /// The documents after the update; `None` if every statement matched.
    documents: Option<Vec<RawDocumentBuf>>,
}

/// MongoDB's response to an update.
#[derive(Deserialize)]
struct UpdateResponse {
    /// Number of documents that matched.
    n: i64,
    #[serde(rename = "writeErrors", default)]
    write_errors: Vec<IndexedError>,
    #[serde(rename = "writeConcernError")]
    write_concern_error: Option<Document>,
}

#[derive(Deserialize)]
struct IndexedError {
    index: usize,
    #[serde(flatten)]
    error: WriteError,
}

impl Store {
    /// Applies an edit or a deletion.
    pub async fn update(&self, command: &UpdateCommand) -> Result<Outcome, StoreError> {
        let result = self.apply(std::slice::from_ref(command), MAX_TRIES).await?.pop().flatten();
        result.unwrap_or(Err(StoreError::Contended))
    }

    /// Applies edits and deletions of different messages. Returns one outcome for each command, in
    /// their order; `None` for a command that must be applied by itself, because its message changed
    /// at the same time or because MongoDB refused it.
    pub async fn bulk_write(
        &self,
        commands: &[UpdateCommand],
    ) -> Result<Vec<Option<Outcome>>, StoreError> {
        let mut outcomes = Vec::with_capacity(commands.len());
        for chunk in commands.chunks(MAX_STATEMENTS) {
            let results = self.apply(chunk, MAX_TRIES_TOGETHER).await?;
            outcomes.extend(results.into_iter().map(|result| result?.ok()));
        }
        Ok(outcomes)
    }

    /// Returns a result for each command, in their order; `None` for a command whose message changed during each try.
    async fn apply(
        &self,
        commands: &[UpdateCommand],
        max_tries: usize,
    ) -> Result<Vec<Option<Result<Outcome, StoreError>>>, StoreError> {
        let mut results: Vec<_> = commands.iter().map(|_| None).collect();
        let indexed = commands.iter().enumerate();
        let mut open: Vec<Open<'_>> = indexed
            .map(|(index, command)| Open {
                index,
                command,
                statement: command.first_statement(),
                refused: false,
            })
            .collect();
        for _ in 0..max_tries {
            if open.is_empty() {
                break;
            }
            let Updated { mut errors, documents } = self.update_and_read(&mut open).await?;
            let Some(documents) = documents else {
                for Open { index, statement, .. } in open.drain(..) {
                    results[index] = statement.map(|statement| Ok(statement.outcome));
                }
                break;
            };
            let mut found = self.own_by_id(&documents)?;
            let mut next = Vec::new();
            for (at, mut open) in open.into_iter().enumerate() {
                let error = errors.remove(&at);
                match open.command.decide(found.remove(&open.command.message_id)) {
                    Ok(Decision::Ended(outcome)) => results[open.index] = Some(Ok(outcome)),
                    Err(error) => results[open.index] = Some(Err(error)),
                    // A damaged message may refuse the first statement, and take the next one.
                    Ok(Decision::Write(statement)) => match error {
                        Some(error) if open.refused => results[open.index] = Some(Err(error)),
                        error => {
                            open.refused = error.is_some();
                            open.statement = Some(statement);
                            next.push(open);
                        }
                    },
                }
            }
            open = next;
        }
        Ok(results)
    }

    /// Runs the statements, and reads the documents after them unless every command has a statement that matched.
    async fn update_and_read(&self, open: &mut [Open<'_>]) -> Result<Updated, StoreError> {
        let (mut positions, mut statements) = (Vec::new(), Vec::new());
        for (at, open) in open.iter_mut().enumerate() {
            if let Some(statement) = &mut open.statement {
                positions.push(at);
                statements.push(statement.take_bson());
            }
        }
        // The driver has no such call for the supported servers, and adds no write concern to a
        // command that it does not know.
        let update = (!statements.is_empty()).then(|| {
            doc! {
                "update": self.messages.name(),
                "updates": statements,
                "ordered": false,
                "writeConcern": { "w": "majority", "j": true },
            }
        });
        let ids = bson_uuids(open.iter().map(|open| open.command.message_id));
        // One more than there can be, so that the first batch is known to be the last.
        let batch_size = u32::try_from(ids.len() + 1).unwrap_or(u32::MAX);
        let (database, messages) = (self.database.clone(), self.messages.clone());
        let session = self.session();
        let write_and_read = async move {
            // One session, so that the read sees the update even if another server has become the
            // primary in between.
            let mut session = session.await?;
            let response = match update {
                Some(update) => {
                    let response = database.run_command(update).session(&mut *session).await?;
                    let response: UpdateResponse = bson::deserialize_from_document(response)?;
                    if usize::try_from(response.n).is_ok_and(|matched| matched == ids.len()) {
                        return Ok((Some(response), None));
                    }
                    Some(response)
                }
                None => None,
            };
            let find = session.find_all(&messages, |messages| {
                let find = messages.find(doc! { "_id": { "$in": &ids[..] } });
                find.batch_size(batch_size)
            });
            let documents = find.await?;
            Ok((response, Some(documents)))
        };
        let (response, documents) = self.run(write_and_read).await?;
        let mut errors = HashMap::new();
        if let Some(response) = response {
            if let Some(error) = response.write_concern_error {
                return Err(StoreError::Unconfirmed(error.to_string()));
            }
            for IndexedError { index, error } in response.write_errors {
                let error = Error::from(ErrorKind::Write(WriteFailure::WriteError(error)));
                if let Some(at) = positions.get(index) {
                    errors.insert(*at, error.into());
                }
            }
        }
        Ok(Updated { errors, documents })
    }
}

impl Statement {
    /// Returns the statement as MongoDB takes it, and leaves its outcome.
    fn take_bson(&mut self) -> Bson {
        let (filter, update) = (mem::take(&mut self.filter), mem::take(&mut self.update));
        // Without the hint, MongoDB would weigh the other indexes for each statement.
        Bson::from(doc! { "q": filter, "u": update, "hint": "_id_" })
    }
}
