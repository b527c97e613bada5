//! The alerts: Prometheus' own tool reads them, and makes their conditions happen.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use testkit::Progress;
use tokio::{process::Command, time::timeout};

use crate::{
    cargo,
    check::{Verdict, in_ci},
    console,
    console::Steps,
};

/// The first reads the rules, too.
const CHECKS: [[&str; 3]; 2] =
    [["check", "config", "prometheus.yml"], ["test", "rules", "alerts.test.yml"]];

/// Longest time for one run of promtool. Nothing of it goes over the network.
const RUN_LIMIT: Duration = Duration::from_mins(1);
/// Longest time to fetch it.
const FETCH_LIMIT: Duration = Duration::from_mins(10);

const UNPACK: &str = include_str!("../alerts/unpack-promtool.sh");
/// What to do where it is missing.
const ADVICE: &str =
    "promtool is needed: it comes with Prometheus (https://prometheus.io/download)";

/// Checks the alerts. Where promtool is missing it says so and skips them, except in CI, which fetches
/// it or fails.
pub(crate) async fn check() -> Result<Verdict> {
    let promtool = match tool().await {
        Ok(promtool) => promtool,
        Err(error) if !in_ci() => {
            console::line(&format!("skipped: {error:#}"));
            return Ok(Verdict::Skipped);
        }
        Err(error) => return Err(error),
    };
    let dir = cargo::project()?.join("monitoring/prometheus");
    let mut verdict = Verdict::Valid;
    for arguments in CHECKS {
        let mut command = Command::new(&promtool);
        command.args(arguments).current_dir(&dir).stdin(Stdio::null()).kill_on_drop(true);
        let status = timeout(RUN_LIMIT, command.status())
            .await
            .with_context(|| format!("promtool is not done within {RUN_LIMIT:?}"))?
            .context("promtool cannot be started")?;
        if !status.success() {
            verdict = Verdict::Invalid;
        }
    }
    Ok(verdict)
}

/// Promtool from the `PATH`, or in CI from Debian's package.
async fn tool() -> Result<PathBuf> {
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
    command.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
    matches!(timeout(RUN_LIMIT, command.output()).await, Ok(Ok(output)) if output.status.success())
}

async fn unpack(dir: &Path) -> Result<()> {
    Steps::begin().say("promtool: not installed, unpacking Debian's package of Prometheus");
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    let mut command = Command::new("sh");
    command.args(["-c", UNPACK]).current_dir(dir).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(FETCH_LIMIT, command.output())
        .await
        .with_context(|| format!("not fetched within {FETCH_LIMIT:?}"))??;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!("{}\n{}", output.status, String::from_utf8_lossy(&said));
    }
    Ok(())
}
