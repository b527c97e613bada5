//! The collection `messages`: its documents, the rule of each write, and the reads.

pub(crate) mod command;
pub(crate) mod create;
pub(crate) mod document;
mod get_by_id;
pub(crate) mod import;
mod list;
pub(crate) mod page;
mod remembered;
mod rules;
pub(crate) mod sample;
mod update;
