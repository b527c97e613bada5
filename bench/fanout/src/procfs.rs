//! What the kernel says of a process: memory and processor time.

use std::{fs, time::Duration};

use anyhow::{Context, Result};

/// Bytes of it that are in memory, shared libraries included.
pub(crate) fn rss_bytes(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).context("no VmRSS")?;
    Ok(kib.trim().parse::<u64>()? * 1024)
}

/// Time that its threads have run so far.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    let mut nanos = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may have ended since.
        let Ok(stat) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        let ran = stat.split_whitespace().next().unwrap_or_default();
        nanos += ran.parse::<u64>().context("schedstat")?;
    }
    Ok(Duration::from_nanos(nanos))
}
