//! kubectl, which renders the Kubernetes manifests: the installed one, else Debian's package.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{
    on_path,
    package::{Package, apt_install},
};
use crate::Progress;

/// Advice where it is missing.
const ADVICE: &str = "kubectl is needed: install it \
    (Debian 13: `apt-get install kubernetes-client`, else https://kubernetes.io/docs/tasks/tools)";

/// Finds kubectl.
pub fn find_kubectl() -> Result<PathBuf> {
    installed().context(ADVICE)
}

/// Finds kubectl, or installs Debian's package. The log goes under `target_dir`.
pub async fn provide_kubectl(target_dir: &Path, progress: &dyn Progress) -> Result<PathBuf> {
    let install = apt_install("kubernetes-client");
    let package = Package { program: "kubectl", install, advice: ADVICE, find: installed };
    package.provide(target_dir, progress).await
}

fn installed() -> Option<PathBuf> {
    on_path("kubectl")
}
