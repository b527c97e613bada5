//! The limits of a listener. The defaults are those of the gateway and of health listeners.

use std::time::Duration;

/// Limits and timeouts of a [`Listener`](super::Listener). There is one timeout for each phase of a connection and none
/// for a whole exchange, so a response may stream for as long as its client takes it.
#[derive(Clone, Debug)]
pub struct ListenerSettings {
    /// True to serve HTTP/2 (with prior knowledge) beside HTTP/1. Without it, upgraded connections can be taken over as
    /// bare sockets.
    pub http2: bool,
    /// Maximum number of connections. At the limit, the connection that has been idle for longest is evicted.
    pub max_connections: usize,
    /// Time in which a new connection is not evicted while its first request has not come.
    pub first_request_grace: Duration,
    /// Maximum time from a connection to the end of its first request's headers.
    pub first_request_timeout: Duration,
    /// Maximum time from the end of a response to the end of the next request's headers. Longer than balancers keep idle
    /// connections (60 s is common): the balancer must be the one that closes first.
    pub idle_timeout: Duration,
    /// Maximum time in which nothing of a request's body arrives while the service waits for it.
    pub body_timeout: Duration,
    /// Maximum time in which the client takes nothing of a response, unless the response has a [`WriteTimeout`].
    pub write_timeout: Duration,
    /// Maximum time that an evicted connection has to finish its responses, streams included.
    pub eviction_timeout: Duration,
    /// Size of the buffer for the headers of an HTTP/1 request, in bytes.
    pub max_header_bytes: usize,
    /// Connections that wait in the kernel to be accepted.
    pub backlog: u32,
    /// Size of the kernel's send buffer (it doubles this for its own overhead); without it, the kernel chooses.
    pub send_buffer_bytes: Option<u32>,
    /// `TCP_NOTSENT_LOWAT`: a socket is writable only while fewer bytes than this are unsent. Linux only.
    pub max_unsent_bytes: Option<u32>,
}

/// The write timeout of one response, in its extensions: overrides [`ListenerSettings::write_timeout`] on HTTP/1.
#[derive(Clone, Copy, Debug)]
pub struct WriteTimeout(pub Duration);

impl Default for ListenerSettings {
    fn default() -> Self {
        Self {
            http2: true,
            max_connections: 1024,
            first_request_grace: Duration::ZERO,
            first_request_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
            eviction_timeout: Duration::from_secs(30),
            max_header_bytes: 32 * 1024,
            backlog: 1024,
            send_buffer_bytes: None,
            max_unsent_bytes: None,
        }
    }
}
