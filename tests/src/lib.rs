//! Helpers of the end-to-end tests.

mod auth;
mod commands;
mod load;
mod otlp;
mod system;

pub use auth::{AuthSystem, STATE_SECRET};
pub use commands::{
    at_millis, create_command, delete_command, edit_command, for_message, inject, inject_traced,
};
pub use load::{Load, LoadReport};
pub use otlp::{Collector, ReceivedSpan};
pub use system::{System, created, draft, open_store, open_store_at};
