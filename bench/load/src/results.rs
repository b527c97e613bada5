//! Results of a run, as they are written to `results.json` and read for a comparison.

use std::{
    fs,
    num::NonZero,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{generator::Measured, number::to_f64, operation::Operation, usage::ProcessUsage};

/// The file in a run's directory.
pub(crate) const FILE: &str = "results.json";

/// Results of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) name: String,
    pub(crate) command: String,
    pub(crate) machine: String,
    pub(crate) cores: usize,
    pub(crate) seconds_per_cell: u64,
    pub(crate) messages: u64,
    pub(crate) cells: Vec<Cell>,
    pub(crate) limits: Vec<Limit>,
    pub(crate) idle: Vec<Idle>,
}

/// One operation on one subject under one load.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) subject: String,
    pub(crate) operation: Operation,
    pub(crate) connections: u16,
    /// Offered share of saturation, in percent; none for a closed loop.
    pub(crate) share: Option<u8>,
    pub(crate) measured: Measured,
    pub(crate) usage: Vec<ProcessUsage>,
    /// Mean number of busy processors of the machine.
    pub(crate) busy_cores: f64,
}

/// Limit of the broker, the database or axum alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Limit {
    pub(crate) name: String,
    /// Commands, documents or responses per second.
    pub(crate) rate: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) busy_cores: f64,
}

/// A process that has nothing to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Idle {
    /// Before or after the load.
    pub(crate) when: String,
    pub(crate) process: String,
    pub(crate) resident_mib: f64,
    pub(crate) percent_of_a_core: f64,
}

impl Cell {
    /// Returns seconds of processor time per thousand requests.
    pub(crate) fn cpu_per_thousand(&self, used: &ProcessUsage) -> f64 {
        used.cpu_seconds * 1e3 / to_f64(self.measured.requests.max(1))
    }

    /// Returns the number of processors that were busy with other processes. If it is more than a few
    /// hundredths, the figures are too low.
    pub(crate) fn foreign_cores(&self) -> f64 {
        let own: f64 = self.usage.iter().map(|used| used.cpu_seconds).sum();
        (self.busy_cores - own / self.measured.seconds).max(0.0)
    }

    pub(crate) fn errors(&self) -> u64 {
        self.measured.refused + self.measured.failed
    }
}

impl Limit {
    /// Returns processor seconds for each of them.
    pub(crate) fn cpu(&self) -> f64 {
        self.busy_cores / self.rate
    }
}

impl Results {
    /// Returns the numbers of connections at which an operation was measured in a closed loop.
    pub(crate) fn connections(&self, operation: Operation) -> Vec<u16> {
        let closed = self.cells.iter().filter(|cell| cell.share.is_none());
        let mut connections: Vec<u16> = closed
            .filter(|cell| cell.operation == operation)
            .map(|cell| cell.connections)
            .collect();
        connections.sort_unstable();
        connections.dedup();
        connections
    }

    /// Writes the file. Called after each step, so that an interrupted run leaves its results.
    pub(crate) fn save(&self, dir: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        fs::write(dir.join(FILE), text).context("the results cannot be written")
    }

    /// Reads the results of a run, by its directory or its name.
    pub(crate) fn load(run: &str, results_dir: &Path) -> Result<Self> {
        let named = results_dir.join(run);
        let dir = if named.is_dir() { named } else { PathBuf::from(run) };
        let text = fs::read_to_string(dir.join(FILE))
            .with_context(|| format!("there is no run {run} in {}", results_dir.display()))?;
        Ok(serde_json::from_str(&text)?)
    }
}

/// Returns the number of processors of the machine.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// Describes the processors and the memory of the machine.
pub(crate) fn machine() -> String {
    let read = |file| fs::read_to_string(file).unwrap_or_default();
    let (cpus, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let value = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let model = value(&cpus, "model name").unwrap_or_else(|| "unknown".to_owned());
    let kib = value(&memory, "MemTotal").and_then(|text| text.split(' ').next()?.parse().ok());
    let gib = kib.map_or(0, |kib: u64| kib / 1024 / 1024);
    let cores = cores();
    format!("{cores} cores ({model}), {gib} GiB")
}
