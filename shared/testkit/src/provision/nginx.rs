//! nginx, the proxy that tests put in front of the services: the installed one, else Debian's package. The system service
//! that the package brings is never started.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{
    is_executable, on_path,
    package::{Package, server_install},
};
use crate::Progress;

/// The place where packages put it, which is on the `PATH` of root only.
const SBIN: &str = "/usr/sbin/nginx";
const ADVICE: &str = "nginx is needed: install it (Debian, Ubuntu: `apt-get install nginx`)";

/// Finds nginx, or installs Debian's package. The log goes under `target_dir`.
pub async fn provide_nginx(target_dir: &Path, progress: &dyn Progress) -> Result<PathBuf> {
    let install = server_install("nginx");
    let package = Package { program: "nginx", install, advice: ADVICE, find: installed };
    package.provide(target_dir, progress).await
}

fn installed() -> Option<PathBuf> {
    on_path("nginx").or_else(|| Some(PathBuf::from(SBIN)).filter(|it| is_executable(it)))
}
