//! The way to the broadcaster.

mod broadcaster;
mod headers;
mod relay;
pub(crate) mod tunnel;
