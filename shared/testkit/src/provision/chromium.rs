//! Chromium, the browser that a test opens: an installed one, else Debian's package.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::{
    as_root,
    fetch::{self, Cancelled},
    on_path,
};
use crate::Progress;

/// Names of suitable programs.
const NAMES: [&str; 4] = ["chromium", "google-chrome", "google-chrome-stable", "chromium-browser"];
const INSTALL: &str = "export DEBIAN_FRONTEND=noninteractive && \
    apt-get -o DPkg::Lock::Timeout=120 update && \
    apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends chromium";
/// Advice where it cannot be installed.
const ADVICE: &str = "a browser is needed: install Chromium (Debian: `apt-get install chromium`) \
    or Google Chrome";

/// Finds Chromium, or installs Debian's package. The log goes under `target_dir`.
pub async fn provide_chromium(target_dir: &Path, progress: &dyn Progress) -> Result<PathBuf> {
    if let Some(chromium) = installed() {
        return Ok(chromium);
    }
    let Some(mut install) = as_root() else { bail!("{ADVICE}") };
    let tools = target_dir.join("tools");
    std::fs::create_dir_all(&tools)?;
    let _lock = fetch::lock(&tools.join("chromium.lock"), progress).await?;
    if let Some(chromium) = installed() {
        return Ok(chromium);
    }
    progress.say("Chromium: not installed, installing Debian's package (about 100 MB)");
    install.args(["-c", INSTALL]);
    let log = tools.join("chromium-install.log");
    fetch::run("installing Chromium with apt-get", install, &log, Cancelled::LetFinish, progress)
        .await
        .context(ADVICE)?;
    installed().context(ADVICE)
}

fn installed() -> Option<PathBuf> {
    NAMES.into_iter().find_map(on_path)
}
