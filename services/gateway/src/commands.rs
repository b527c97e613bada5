//! Writes: a command is published, and its outcome waited for.

pub(crate) mod pending;
pub(crate) mod submit;
