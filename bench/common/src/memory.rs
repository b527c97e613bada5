//! Memory of processes, from `/proc`.

use std::fs;

use anyhow::{Context, Result};

/// Returns a value of `/proc/PID/status`, such as `VmRSS` (resident memory, shared libraries included) or `VmHWM`
/// (its peak), in KiB.
pub fn memory_kib(pid: u32, key: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))?;
    let mut values = status.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let value = values.next().with_context(|| format!("{path} has no {key}"))?;
    let kib = value.trim().strip_suffix(" kB").with_context(|| format!("{path}: {value}"))?;
    Ok(kib.parse()?)
}
