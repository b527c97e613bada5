//! Processor time and peak memory of processes, from `/proc`.

use std::{collections::HashMap, fs};

use anyhow::{Context, Result};
use bench_common::memory_kib;
use serde::{Deserialize, Serialize};
use testkit::ProcessId;

use crate::number::to_f64;

/// The unit of `/proc` (`USER_HZ`), the same on all of Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process to watch, with its children.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    pub(crate) name: String,
    pub(crate) pid: u32,
}

/// Usage of one process and its children during a measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ProcessUsage {
    pub(crate) name: String,
    pub(crate) cpu_seconds: f64,
    /// None for the load generator, which has ended.
    pub(crate) peak_mib: Option<f64>,
}

/// A measurement that has begun.
pub(crate) struct Meter {
    watched: Vec<Watched>,
    cpu_at_start: Vec<f64>,
    ended_children_at_start: f64,
    machine_at_start: f64,
}

impl Meter {
    /// Begins to measure, and resets peaks.
    pub(crate) fn start(watched: &[Watched]) -> Result<Self> {
        let parents = parents();
        let mut cpu_at_start = Vec::new();
        for one in watched {
            let family = family(one.pid, &parents);
            for pid in &family {
                // 5 resets the peak to the current value. Where that is not allowed, the peak since the
                // process's start counts.
                let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
            }
            cpu_at_start.push(cpu_seconds(&family)?);
        }
        Ok(Self {
            watched: watched.to_vec(),
            cpu_at_start,
            ended_children_at_start: ended_children()?,
            machine_at_start: machine_busy_seconds()?,
        })
    }

    /// Returns the usage of each process since then, that of the load generator included (the only child that
    /// has ended), and the busy time of all processors of the machine.
    pub(crate) fn stop(self) -> Result<(Vec<ProcessUsage>, f64)> {
        let busy = machine_busy_seconds()? - self.machine_at_start;
        let parents = parents();
        let mut used = Vec::new();
        for (one, before) in self.watched.iter().zip(self.cpu_at_start) {
            let family = family(one.pid, &parents);
            used.push(ProcessUsage {
                name: one.name.clone(),
                cpu_seconds: cpu_seconds(&family)? - before,
                peak_mib: Some(memory_mib(&family, "VmHWM")?),
            });
        }
        used.push(ProcessUsage {
            name: "load generator".to_owned(),
            cpu_seconds: ended_children()? - self.ended_children_at_start,
            peak_mib: None,
        });
        Ok((used, busy))
    }
}

/// Returns the resident memory of a process and its children.
pub(crate) fn resident_mib(pid: u32) -> Result<f64> {
    memory_mib(&family(pid, &parents()), "VmRSS")
}

/// Returns a process and its descendants, with ids that later processes cannot have.
pub(crate) fn members(pid: u32) -> Vec<ProcessId> {
    family(pid, &parents()).into_iter().filter_map(ProcessId::of).collect()
}

/// Returns a process and its descendants.
fn family(pid: u32, parents: &HashMap<u32, u32>) -> Vec<u32> {
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        family.extend(parents.iter().filter(|(_, of)| **of == parent).map(|(child, _)| *child));
        next += 1;
    }
    family
}

/// Returns each process's parent.
fn parents() -> HashMap<u32, u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    entries
        .filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let parent = stat(&pid.to_string()).ok()?.get(1)?.parse().ok()?;
            Some((pid, parent))
        })
        .collect()
}

/// Returns the fields of `/proc/{pid}/stat` from the third on (`man 5 proc`). The second, the name, can
/// contain any character.
fn stat(pid: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("process {pid} has ended"))?;
    let (_, fields) = text.rsplit_once(')').context("/proc/…/stat has no name")?;
    Ok(fields.split_whitespace().map(str::to_owned).collect())
}

/// Returns the time of all threads in user and kernel mode.
fn cpu_seconds(family: &[u32]) -> Result<f64> {
    let mut ticks = 0;
    for pid in family {
        ticks += sum(&stat(&pid.to_string())?, 11..13)?;
    }
    Ok(seconds(ticks))
}

/// Returns the same of this process's children that have ended.
fn ended_children() -> Result<f64> {
    Ok(seconds(sum(&stat("self")?, 13..15)?))
}

/// Returns the busy time of all processors since the machine's start.
fn machine_busy_seconds() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat")?;
    let fields: Vec<String> = text
        .lines()
        .next()
        .context("/proc/stat is empty")?
        .split_whitespace()
        .skip(1)
        .map(str::to_owned)
        .collect();
    // user, nice, system; not idle, iowait; irq, softirq.
    Ok(seconds(sum(&fields, 0..3)? + sum(&fields, 5..7)?))
}

fn sum(fields: &[String], range: std::ops::Range<usize>) -> Result<u64> {
    let fields = fields.get(range).context("too few fields")?;
    fields.iter().map(|field| Ok(field.parse::<u64>()?)).sum()
}

fn seconds(ticks: u64) -> f64 {
    to_f64(ticks) / TICKS_PER_SECOND
}

fn memory_mib(family: &[u32], key: &str) -> Result<f64> {
    let mut kib = 0;
    for pid in family {
        kib += memory_kib(*pid, key)?;
    }
    Ok(to_f64(kib) / 1024.0)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn work_and_memory_are_seen() {
        let me = Watched { name: "me".to_owned(), pid: std::process::id() };
        let meter = Meter::start(&[me]).unwrap();
        let begun = Instant::now();
        let mut memory = Vec::new();
        let mut sum = 0_usize;
        // A tick of the clock is 10 ms; this is long enough for one on a busy machine too.
        while begun.elapsed() < Duration::from_millis(500) {
            memory.resize(memory.len() + 4096, 1_u8);
            sum = sum.wrapping_add(memory.iter().map(|byte| usize::from(*byte)).sum());
        }
        assert!(sum > 0);
        let (used, busy) = meter.stop().unwrap();
        let me = used.first().unwrap();
        assert!(me.cpu_seconds > 0.0 && busy > 0.0, "{used:?}, {busy}");
        assert!(me.peak_mib.unwrap() > 1.0, "{used:?}");
    }
}
