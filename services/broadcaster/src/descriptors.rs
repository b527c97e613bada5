//! File descriptors: each subscriber needs one, and most systems grant a process only 1,024 of them
//! until it asks for more.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors for everything but subscribers: connections in their handshake, to the broker and
/// to the database, and what the runtime itself opens.
const OTHERS: u64 = crate::server::MAX_HANDSHAKES as u64 + 128;

/// Raises the limit as far as the system lets, and returns how many of the `wanted` subscribers
/// have room in it. Past the limit no connection could be accepted at all, not even to be refused.
pub(crate) fn make_room(wanted: u32) -> usize {
    let limit = match raise() {
        Ok(limit) => limit,
        Err(error) => {
            tracing::warn!(%error, "cannot tell how many files may be open");
            return wanted as usize;
        }
    };
    let room = u32::try_from(limit.saturating_sub(OTHERS).max(1)).unwrap_or(u32::MAX);
    if room < wanted {
        tracing::warn!(
            wanted,
            max_connections = room,
            open_files = limit,
            "MAX_CONNECTIONS is more than the limit on open files allows"
        );
    }
    room.min(wanted) as usize
}

fn raise() -> nix::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}
