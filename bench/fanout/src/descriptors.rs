//! File descriptors: each subscriber takes one on both sides.

use anyhow::{Result, ensure};
use service::fd_limit;

/// Maximum number of subscribers of one process that serves them.
pub(crate) const MAX_CONNECTIONS: u32 = 19_300;

/// Descriptors that a process needs beside its subscribers' sockets.
const OTHER_DESCRIPTORS: usize = 64;

/// Raises this process's limit, which its children inherit. Returns how many subscribers it has room for.
pub(crate) fn raise(subscribers: usize) -> usize {
    fd_limit::raise(subscribers, OTHER_DESCRIPTORS)
}

/// Raises the limit, and fails where it stays too low for so many subscribers.
pub(crate) fn require(subscribers: usize) -> Result<()> {
    let available = raise(subscribers);
    ensure!(
        available >= subscribers,
        "the limit of file descriptors allows {available} subscribers for each process, not {subscribers}; raise it \
         (`ulimit -Hn`) or measure fewer"
    );
    Ok(())
}
