//! The API: a folder for each resource, a file for each verb.

pub(crate) mod chat;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod messages;
pub(crate) mod metadata;
pub(crate) mod operations;
pub(crate) mod problems;
