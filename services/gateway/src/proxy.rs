//! The way to the broadcaster.

mod relay;
pub(crate) mod tunnel;
