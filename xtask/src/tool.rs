//! Programs of others that cargo builds, each kept under the target directory.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use testkit::{Progress, Steps};

use crate::cargo::{self, Running};

/// Returns the program of this name and version. Builds it from crates.io the first time.
pub(crate) async fn provide(
    target_dir: &Path,
    name: &str,
    version: &str,
    steps: Steps,
) -> Result<PathBuf> {
    let root = target_dir.join("tools").join(format!("{name}-{version}"));
    let program = root.join("bin").join(name);
    if program.exists() {
        return Ok(program);
    }
    steps.say(&format!("{name}: installing from crates.io"));
    let mut command =
        cargo::command(&["install", name, "--version", version, "--locked", "--quiet"]);
    command.arg("--root").arg(&root);
    let status = Running::start(command)?.wait().await?;
    if !status.success() {
        bail!("{name} {version} cannot be installed from crates.io (cargo install: {status})");
    }
    Ok(program)
}
