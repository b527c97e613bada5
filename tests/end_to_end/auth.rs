//! Authorization at the gateway, with `AUTH=jwt`.

mod admission;
mod docs;
mod limits;
mod operations;
mod rules;

use std::time::Duration;

/// Longest wait for what must happen.
const SOON: Duration = Duration::from_secs(20);
