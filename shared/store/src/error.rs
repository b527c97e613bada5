//! Errors of the store. They tell what is worth another try from what never succeeds.

use std::{collections::HashMap, time::Duration};

use mongodb::{
    error::{Error, ErrorKind, WriteFailure},
    results::InsertManyResult,
};

use crate::driver_error::DriverError;

/// MongoDB's code for a value that a unique index already has. Here the index is always that of `_id`.
pub(crate) const DUPLICATE_KEY: i32 = 11000;

/// MongoDB's code for an unusable value.
const BAD_VALUE: i32 = 2;

/// Reasons why an operation on the store failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The server did not answer in time.
    #[error("MongoDB did not answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The server or the connection failed. Another try may succeed.
    #[error("the MongoDB operation failed")]
    Failed(#[source] DriverError),
    /// The server did the write, but cannot confirm that a majority has it.
    #[error("MongoDB did not confirm the write on a majority: {0}")]
    Unconfirmed(String),
    /// The server refuses the operation, however often it is tried.
    #[error("MongoDB refused the operation")]
    Refused(#[source] DriverError),
    /// A stored document is damaged: this code did not write it so. It stays that way.
    #[error("a stored document cannot be read: {0}")]
    Unreadable(String),
    /// The operation panicked because of its input, and would do so again.
    #[error("the operation panicked: {0}")]
    Panicked(String),
    /// The operation's task ended without a result, because the process is stopping.
    #[error("the operation was cancelled: {0}")]
    Cancelled(String),
    /// Too many reads already wait for the server.
    #[error("too many reads wait for MongoDB")]
    Overloaded,
    /// The document changed during each of many tries.
    #[error("the document changed during every try to write it")]
    Contended,
}

impl StoreError {
    /// Tells that another try cannot succeed.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Unreadable(_) | Self::Panicked(_))
    }
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        match &*error.kind {
            ErrorKind::Bson(_) => Self::Unreadable(DriverError::from(error).to_string()),
            // For a whole command, this code may also blame the server: one without a journal answers
            // every write with it, since it cannot journal any.
            ErrorKind::Command(command) if command.code == BAD_VALUE => Self::Failed(error.into()),
            ErrorKind::Command(command) if is_permanent_code(command.code) => {
                Self::Refused(error.into())
            }
            ErrorKind::Write(WriteFailure::WriteError(write)) if is_permanent_code(write.code) => {
                Self::Refused(error.into())
            }
            _ => Self::Failed(error.into()),
        }
    }
}

/// Tells whether MongoDB will never store this document or run this update. Only codes that are
/// certain count: their commands are dead-lettered, and an outage must not dead-letter anything.
pub(crate) fn is_permanent_code(code: i32) -> bool {
    const FAILED_TO_PARSE: i32 = 9;
    const TYPE_MISMATCH: i32 = 14;
    const VALIDATION_FAILURE: i32 = 121;
    const TOO_LARGE: i32 = 10334;
    /// `$rename` met a stored value that is no document, and cannot hold the field.
    const PATH_NOT_VIABLE: i32 = 28;
    let permanent =
        [BAD_VALUE, FAILED_TO_PARSE, TYPE_MISMATCH, PATH_NOT_VIABLE, VALIDATION_FAILURE, TOO_LARGE];
    permanent.contains(&code)
}

pub(crate) fn is_duplicate_key(error: &Error) -> bool {
    matches!(
        &*error.kind,
        ErrorKind::Write(WriteFailure::WriteError(write)) if write.code == DUPLICATE_KEY
    )
}

/// Returns the documents that an unordered insert could not store, by index, with MongoDB's codes; it
/// stored all others. Any other failure than these certain ones, a missing majority above all, leaves
/// all documents open.
pub(crate) fn insert_failures(
    inserted: Result<InsertManyResult, Error>,
    is_certain: impl Fn(i32) -> bool,
) -> Result<HashMap<usize, i32>, Error> {
    let Err(error) = inserted else { return Ok(HashMap::new()) };
    if let ErrorKind::InsertMany(failure) = &*error.kind
        && failure.write_concern_error.is_none()
    {
        let failed = failure.write_errors.iter().flatten();
        let codes: HashMap<usize, i32> = failed.map(|error| (error.index, error.code)).collect();
        if codes.values().all(|code| is_certain(*code)) {
            return Ok(codes);
        }
    }
    Err(error)
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{self, doc};

    use super::*;

    /// The store's error for an error of a whole command.
    fn command_error(code: i32, name: &str, message: &str) -> StoreError {
        let response = doc! { "code": code, "codeName": name, "errmsg": message };
        let kind = ErrorKind::Command(bson::deserialize_from_document(response).unwrap());
        StoreError::from(Error::from(kind))
    }

    #[test]
    fn a_server_without_a_journal_is_no_fault_of_what_it_is_asked_to_store() {
        let message = "cannot use 'j' option when a host does not have journaling enabled";
        assert!(!command_error(BAD_VALUE, "BadValue", message).is_permanent());
        assert!(command_error(14, "TypeMismatch", "the field must be an array").is_permanent());
        assert!(is_permanent_code(BAD_VALUE), "of one document");
    }
}
