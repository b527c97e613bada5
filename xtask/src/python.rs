//! Python programs and packages that are not ours, under the target directory.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use testkit::Progress;
use tokio::{process::Command, time::timeout};

/// Longest time for each step of an installation.
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
    // Written last, so that it says what is completely there.
    let installed = home.join("installed.txt");
    if fs::read_to_string(&installed).is_ok_and(|text| text == requirements) {
        return Ok(programs);
    }
    progress.say(&format!("{name}: installing from PyPI"));
    let _ = fs::remove_dir_all(&home);
    fs::create_dir_all(&home).with_context(|| format!("{} cannot be made", home.display()))?;
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv"]).arg(&home);
    succeeded(venv).await.context(
        "no virtual environment can be made: install Python 3.10 or later with its venv module \
         (Debian: apt-get install python3-venv)",
    )?;
    let list = home.join("requirements.txt");
    fs::write(&list, requirements)?;
    let mut pip = Command::new(programs.join("python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
        .arg(&list);
    succeeded(pip).await.with_context(|| format!("{name} cannot be installed from PyPI"))?;
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
    succeeded(pip).await.context("Python packages cannot be installed from PyPI")?;
    // Only what is completely there gets this name. Another run may have been first.
    if let Err(error) = fs::rename(&parts, &home)
        && !home.is_dir()
    {
        return Err(error).with_context(|| format!("{} cannot be made", home.display()));
    }
    let _ = fs::remove_dir_all(&parts);
    Ok(home)
}

async fn succeeded(mut command: Command) -> Result<()> {
    let command = command.stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(INSTALL_LIMIT, command.output())
        .await
        .with_context(|| format!("not done within {INSTALL_LIMIT:?}"))??;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!("{}\n{}", output.status, String::from_utf8_lossy(&said));
    }
    Ok(())
}
