//! Packages of Debian for programs that the machine lacks.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::{
    as_root,
    fetch::{self, Cancelled},
};
use crate::Progress;

/// A program, and the package that brings it.
pub(super) struct Package {
    pub(super) program: &'static str,
    /// Shell script that installs the package.
    pub(super) install: String,
    /// Advice where it cannot be installed.
    pub(super) advice: &'static str,
    /// Finds the installed program.
    pub(super) find: fn() -> Option<PathBuf>,
}

/// Returns a script that installs a package with apt-get.
pub(super) fn apt_install(package: &str) -> String {
    let apt = "apt-get -o DPkg::Lock::Timeout=120";
    format!(
        "export DEBIAN_FRONTEND=noninteractive && {apt} update && \
         {apt} install -y --no-install-recommends {package}"
    )
}

/// Returns a script that installs a server's package, and keeps the server from being started.
pub(super) fn server_install(package: &str) -> String {
    format!("package={package}\n{}", include_str!("install-server.sh"))
}

impl Package {
    /// Finds the program, or installs the package. The log goes under `target_dir`.
    pub(super) async fn provide(
        &self,
        target_dir: &Path,
        progress: &dyn Progress,
    ) -> Result<PathBuf> {
        let Self { program, install, advice, find } = self;
        if let Some(found) = find() {
            return Ok(found);
        }
        let Some(mut shell) = as_root() else { bail!("{advice}") };
        let tools = target_dir.join("tools");
        fs::create_dir_all(&tools)?;
        let name = program.to_lowercase();
        let _lock = fetch::lock(&tools.join(format!("{name}.lock")), progress).await?;
        if let Some(found) = find() {
            return Ok(found);
        }
        progress.say(&format!("{program}: not installed, installing Debian's package"));
        shell.args(["-c", install]);
        let log = tools.join(format!("{name}-install.log"));
        let what = format!("installing {program} with apt-get");
        fetch::run(&what, shell, &log, Cancelled::LetFinish, progress).await.context(*advice)?;
        find().with_context(|| format!("{program} is missing after the installation. {advice}"))
    }
}
