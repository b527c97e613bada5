//! Processor time of a process, in nanoseconds: ticks of 10 ms are too coarse for a few frames.

use std::{fs, time::Duration};

use anyhow::{Context, Result};

/// Returns the time that a process's threads have run so far.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let mut nanos = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may have ended since.
        let Ok(stat) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        let ran = stat.split_whitespace().next().unwrap_or_default();
        nanos += ran.parse::<u64>().context("schedstat")?;
    }
    Ok(Duration::from_nanos(nanos))
}
