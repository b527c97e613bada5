//! MongoDB: documents, queries, writes, indexes. The only crate that names mongodb.
//!
//! Every command is one operation on one document, so it works on a standalone server, a replica
//! set and a sharded cluster alike, without transactions. Its filter says under which conditions
//! it applies; that makes it safe to deliver twice, or after a newer one.

pub mod admin;
mod batcher;
mod bulk_write;
mod client;
mod config;
mod delivery_attempts;
mod documents;
mod get_by_id;
mod indexes;
mod list;
mod operation_records;
mod operations;
mod sample;
mod writes;

pub use bulk_write::UpdateCommand;
pub use client::{Store, StoreError};
pub use config::{
    DatabaseName, InvalidDatabaseName, InvalidMongoUri, MongoUri, StoreConfig, StoreSettings,
};
pub use delivery_attempts::AttemptId;
pub use list::{ListQuery, Page, Position};
pub use operation_records::RecordedOutcome;
pub use operations::OperationState;
pub use writes::{CreateCommand, DeleteCommand, EditCommand, Rejected};
