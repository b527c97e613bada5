//! The collection `messages`: its documents, the rule of each write, and the reads.

mod bulk_write;
pub(crate) mod command;
mod create;
mod delete;
pub(crate) mod document;
mod edit;
mod expressions;
mod get_by_id;
mod list;
pub(crate) mod page;
mod sample;
mod stored;
mod update;
