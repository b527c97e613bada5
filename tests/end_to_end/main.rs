//! The real binaries on a real broker and a real database. Run by `cargo xtask test`.

mod broadcasts;
mod conformance;
mod dead_letters;
mod docs;
mod http;
mod idempotency;
mod leadership;
mod lists;
mod messages;
mod metrics;
mod operations;
mod outages;
mod overload;
mod permissions;
mod poison;
mod preconditions;
mod problems;
mod redelivery;
mod rolling_restart;
mod scaling;
mod settings;
mod shutdown;
mod start_order;
mod tls;
mod traces;
