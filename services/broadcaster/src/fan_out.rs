//! The fan-out: from one frame to the sockets of all subscribers.
//!
//! The [`hub`] writes a [`frame`] to the [`subscriber_sink`] of each subscriber, and that to the
//! socket, which the [`paced_stream`] wraps. The session does everything else with the same sink.

pub(crate) mod frame;
pub(crate) mod hub;
pub(crate) mod paced_stream;
pub(crate) mod subscriber_sink;
