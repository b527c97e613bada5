//! Storage in MongoDB: documents, rules of writes, reads, indexes. The only crate that names `mongodb`.
//!
//! Every command is one operation on one document, so it works on a standalone server, a replica
//! set and a sharded cluster alike, without transactions. The operation's filter holds the
//! conditions under which it applies. Therefore a command can be delivered twice, or after a newer
//! one, without harm.

pub mod admin;
mod batcher;
mod causal_clock;
mod client;
mod config;
mod convert;
mod delivery_attempts;
mod driver_error;
mod error;
mod events;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod indexes;
mod legacy;
mod messages;
mod operations;
mod probe;
mod unreadable;
mod uri;

pub use client::Store;
pub use config::{DatabaseName, InvalidDatabaseName, StoreConfig, StoreSettings};
pub use delivery_attempts::AttemptId;
pub use driver_error::DriverError;
pub use error::StoreError;
pub use events::{
    EntryOfUser,
    append::{LogAppender, PendingEntry},
    recent_end::RecentLogEnd,
};
pub use legacy::{
    FieldProblem, LegacyDocument, LegacyId, LegacyMessage, SourceCollection, SourceError,
};
pub use messages::{
    command::{CreateCommand, Update, UpdateCommand},
    import::ImportOutcome,
    page::{ListQuery, Page, Position},
    sample::Sample,
};
pub use operations::{RecordedOutcome, state::OperationState};
pub use uri::{InvalidMongoUri, InvalidOption, MongoUri, SourceUri};
