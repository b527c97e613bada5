//! MongoDB: documents, queries, writes, indexes. The only crate that names mongodb.
//!
//! Every command is one operation on one document, so it works on a standalone server, a replica
//! set and a sharded cluster alike, without transactions. Its filter says under which conditions
//! it applies; that makes it safe to deliver twice, or after a newer one.

pub mod admin;
mod changes;
mod client;
mod documents;
mod draw;
mod endings;
mod finds;
mod gathering;
mod indexes;
mod operations;
mod queries;
mod suspects;
mod writes;

pub use changes::ChangeCommand;
pub use client::{InvalidMongoUri, Store, StoreError, StoreSettings};
pub use endings::Ending;
pub use operations::OperationState;
pub use queries::{ListQuery, Page, Position};
pub use suspects::AttemptId;
pub use writes::{CreateCommand, DeleteCommand, EditCommand, Rejected};
