//! The system's promises, checked while everything they lean on fails.
//!
//! Many clients create, edit, delete, repeat and read through two gateways and two workers, while a
//! seeded plan kills, freezes, cuts, delays and swallows. Each client writes down what it asked and
//! what it was told. In the end everything is healed and drained, what is stored is read, and the
//! [`checker`] holds the whole history against the promises.
//!
//! The seed decides the plan of faults and every draw of every client. How requests and faults meet
//! in time is the machine's, so a run can be repeated, and not replayed.

pub mod checker;
mod client;
mod faults;
pub mod history;
mod options;
mod plan;
mod probe;
mod replays;
mod report;
mod run;
mod settle;
mod subscribers;
mod system;
mod workload;

pub use options::{Lie, Options};
pub use plan::Kind;
pub use report::Report;
pub use run::run;
