//! Chromium, the browser that a test opens: an installed one, else Debian's package (about 100 MB).

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{
    on_path,
    package::{Package, apt_install},
};
use crate::Progress;

/// Names of suitable programs.
const NAMES: [&str; 4] = ["chromium", "google-chrome", "google-chrome-stable", "chromium-browser"];
const ADVICE: &str = "a browser is needed: install Chromium (Debian: `apt-get install chromium`) \
    or Google Chrome";

/// Finds Chromium, or installs Debian's package. The log goes under `target_dir`.
pub async fn provide_chromium(target_dir: &Path, progress: &dyn Progress) -> Result<PathBuf> {
    let install = apt_install("chromium");
    let package = Package { program: "Chromium", install, advice: ADVICE, find: installed };
    package.provide(target_dir, progress).await
}

fn installed() -> Option<PathBuf> {
    NAMES.into_iter().find_map(on_path)
}
