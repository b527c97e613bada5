//! The collection `operations`: recorded outcomes, and the state of an operation.

pub(crate) mod recorded_outcome;
mod records;
pub(crate) mod state;
