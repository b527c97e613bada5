//! The alerts: Prometheus' own tool reads them, and makes their conditions happen.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use testkit::{Progress, Steps};
use tokio::process::Command;

use super::verdict::{Verdict, available, in_ci};
use crate::{cargo, command};

/// Runs of promtool. The first reads the rules, too.
const RUNS: [[&str; 3]; 2] =
    [["check", "config", "prometheus.yml"], ["test", "rules", "alerts.test.yml"]];

/// Maximum time of one run, which needs no network.
const RUN_LIMIT: Duration = Duration::from_mins(1);
/// Maximum time to fetch promtool.
const FETCH_LIMIT: Duration = Duration::from_mins(10);

const UNPACK: &str = include_str!("../../alerts/unpack-promtool.sh");
const ADVICE: &str =
    "promtool is missing: install Prometheus (https://prometheus.io/download), which brings it";

/// Checks the alerts. Skipped where promtool is missing, except in CI, which fetches it.
pub(super) async fn check() -> Result<Verdict> {
    let Some(promtool) = available(promtool().await)? else { return Ok(Verdict::Skipped) };
    let dir = cargo::project()?.join("monitoring/prometheus");
    let mut valid = true;
    for arguments in RUNS {
        let mut command = Command::new(&promtool);
        command.args(arguments).current_dir(&dir);
        valid &= command::status(command, RUN_LIMIT).await?.success();
    }
    Ok(valid.into())
}

/// Returns promtool from the `PATH`, or in CI from Debian's package.
async fn promtool() -> Result<PathBuf> {
    let program = PathBuf::from("promtool");
    if runs(&program).await {
        return Ok(program);
    }
    if !in_ci() {
        bail!("{ADVICE}");
    }
    let dir = cargo::target_dir().await?.join("tools/promtool");
    let program = dir.join("usr/bin/promtool");
    if !runs(&program).await {
        unpack(&dir).await.context(ADVICE)?;
    }
    Ok(program)
}

async fn runs(program: &Path) -> bool {
    let mut command = Command::new(program);
    command.arg("--version");
    command::output(command, RUN_LIMIT).await.is_ok()
}

async fn unpack(dir: &Path) -> Result<()> {
    Steps::begin().say("promtool: not installed, unpacking Debian's package of Prometheus");
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    let mut command = Command::new("sh");
    command.args(["-c", UNPACK]).current_dir(dir);
    command::output(command, FETCH_LIMIT).await.map(drop)
}
