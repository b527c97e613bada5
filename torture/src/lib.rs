//! Checks of the system's promises under faults.
//!
//! Many clients create, edit, delete, repeat and read through two gateways and two workers, while a seeded
//! plan kills, freezes, cuts, delays and swallows. Each client records its requests and responses. In the end all
//! faults are healed, the queue is drained, everything stored is read, and the [`checker`] compares the whole
//! history with the promises. As in Jepsen, an operation of the history is one request and its response.
//!
//! The seed decides the plan of faults and every choice of every client. The timing of requests and faults
//! depends on the machine, so a run can be repeated, but not replayed exactly.

pub mod arrivals;
pub mod checker;
mod client;
pub mod condition;
mod event_subscribers;
mod faults;
pub mod history;
mod intruder;
mod options;
mod plan;
mod probe;
mod replays;
mod report;
mod run;
mod settle;
mod storage_formats;
mod subscribers;
mod system;
mod tokens;
mod workload;

pub use options::{Lie, Options};
pub use plan::Kind;
pub use report::Report;
pub use run::run;
