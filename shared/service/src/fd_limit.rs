//! The limit of file descriptors. Each connection needs one, and most systems grant a process only
//! 1,024 until it asks for more.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::health;

/// Raises the limit as far as the system allows, and returns the number of connections, at most
/// `wanted`, for which it leaves room beside `others` and the connections of `METRICS_BIND`. Beyond the limit a connection could not even be
/// accepted to be refused.
#[must_use]
pub fn raise(wanted: usize, others: usize) -> usize {
    let limit = match raise_soft_limit() {
        Ok(limit) => usize::try_from(limit).unwrap_or(usize::MAX),
        Err(error) => {
            tracing::warn!(%error, "cannot read or raise the limit of open files; assuming that it is high enough");
            return wanted;
        }
    };
    let room = limit.saturating_sub(others + health::MAX_CONNECTIONS).max(1);
    if room < wanted {
        tracing::warn!(
            wanted,
            room,
            open_files = limit,
            "the limit of open files leaves room for fewer connections than configured; raise it (ulimit -n)"
        );
    } else {
        tracing::info!(
            connections = wanted,
            open_files = limit,
            "the limit of open files has room for all connections"
        );
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
