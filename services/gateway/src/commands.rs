//! Writes as commands: submit one, wait for its outcome.

pub(crate) mod pending;
pub(crate) mod submit;
