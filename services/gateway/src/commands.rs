//! Writes as commands: submit one, wait for its outcome.

pub(crate) mod broker_clients;
pub(crate) mod pending;
pub(crate) mod submit;
