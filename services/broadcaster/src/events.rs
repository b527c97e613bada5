//! Event streams: what happens to a user's messages, in the order of the log of changes, without a hole.
//!
//! The tail follows the log and keeps its newest part in memory (`tail`, `memory`). Each stream has a follower, which pulls
//! the changes that it wants from there, or from the log if it is further behind (`follower`), and reads the messages that
//! they are about. So a stream that is slow delays nobody and takes no memory. `stream` adds what only time brings, and
//! `sse`, `poll` and the WebSocket's session bring it to the client.

pub(crate) mod follower;
pub(crate) mod log_reader;
mod memory;
pub(crate) mod metrics;
pub(crate) mod poll;
pub(crate) mod request;
pub(crate) mod reset_reason;
mod resume;
pub(crate) mod sse;
pub(crate) mod stream;
pub(crate) mod tail;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod user_limit;
pub(crate) mod websocket;
