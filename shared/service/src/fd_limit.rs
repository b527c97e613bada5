//! File descriptors: each connection needs one, and most systems grant a process only 1,024 of
//! them until it asks for more.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the limit as far as the system lets, and returns how many of the `wanted` connections
/// have room in it beside `others`. Past the limit no connection could be accepted at all, not
/// even to be refused.
#[must_use]
pub fn raise(wanted: usize, others: usize) -> usize {
    let limit = match raise_soft_limit() {
        Ok(limit) => usize::try_from(limit).unwrap_or(usize::MAX),
        Err(error) => {
            tracing::warn!(%error, "cannot tell how many files may be open");
            return wanted;
        }
    };
    let room = limit.saturating_sub(others).max(1);
    if room < wanted {
        tracing::warn!(wanted, room, open_files = limit, "too few open files are allowed");
    } else {
        tracing::info!(connections = wanted, open_files = limit, "room for connections");
    }
    room.min(wanted)
}

fn raise_soft_limit() -> nix::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}
