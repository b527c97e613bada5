//! wrk, the load generator of the benchmarks: the installed one, else Debian's package.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{
    on_path,
    package::{Package, apt_install},
};
use crate::Progress;

const ADVICE: &str = "wrk is needed: install it (Debian, Ubuntu: `apt-get install wrk`)";

/// Finds wrk, or installs Debian's package. The log goes under `target_dir`.
pub async fn provide_wrk(target_dir: &Path, progress: &dyn Progress) -> Result<PathBuf> {
    let install = apt_install("wrk");
    let package = Package { program: "wrk", install, advice: ADVICE, find: || on_path("wrk") };
    package.provide(target_dir, progress).await
}
