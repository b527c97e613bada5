//! kubectl, which renders the Kubernetes manifests: the installed one, else Debian's package.

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
    apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends kubernetes-client";
/// Advice where it is missing.
const ADVICE: &str = "kubectl is needed: install it \
    (Debian 13: `apt-get install kubernetes-client`, else https://kubernetes.io/docs/tasks/tools)";

/// Finds kubectl.
pub fn find_kubectl() -> Result<PathBuf> {
    on_path("kubectl").context(ADVICE)
}

/// Finds kubectl, or installs Debian's package. The log goes under `target_dir`.
pub async fn provide_kubectl(target_dir: &Path, progress: &dyn Progress) -> Result<PathBuf> {
    if let Ok(kubectl) = find_kubectl() {
        return Ok(kubectl);
    }
    let Some(mut install) = as_root() else { bail!("{ADVICE}") };
    progress.say("kubectl: not installed, installing Debian's package");
    install.args(["-c", INSTALL]);
    let tools = target_dir.join("tools");
    std::fs::create_dir_all(&tools)?;
    let log = tools.join("kubectl-install.log");
    fetch::run("installing kubectl with apt-get", install, &log, Cancelled::LetFinish, progress)
        .await
        .context(ADVICE)?;
    find_kubectl()
}
