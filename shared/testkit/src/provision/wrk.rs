//! wrk, the load generator of the benchmarks: the installed one, else Debian's package.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::{
    as_root,
    fetch::{self, Cancelled},
    on_path,
};
use crate::Progress;

const INSTALL: &str = "export DEBIAN_FRONTEND=noninteractive && \
    apt-get -o DPkg::Lock::Timeout=120 update && \
    apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends wrk";
/// Advice where it cannot be installed.
const ADVICE: &str = "wrk is needed: install it (Debian, Ubuntu: `apt-get install wrk`)";

/// Finds wrk, or installs Debian's package. The log goes under `target_dir`.
pub async fn provide_wrk(target_dir: &Path, progress: &dyn Progress) -> Result<PathBuf> {
    if let Some(wrk) = on_path("wrk") {
        return Ok(wrk);
    }
    let Some(mut install) = as_root() else { bail!("{ADVICE}") };
    progress.say("wrk: not installed, installing Debian's package");
    install.args(["-c", INSTALL]);
    let tools = target_dir.join("tools");
    std::fs::create_dir_all(&tools)?;
    let log = tools.join("wrk-install.log");
    fetch::run("installing wrk with apt-get", install, &log, Cancelled::LetFinish, progress)
        .await
        .context(ADVICE)?;
    on_path("wrk").context(ADVICE)
}
