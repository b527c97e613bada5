//! Tools that are written in Python: installed under the target directory, pinned.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use testkit::Progress;
use tokio::{process::Command, time::timeout};

use crate::console::Steps;

/// Longest time for an installation.
const INSTALL_LIMIT: Duration = Duration::from_mins(10);

/// Installs what `requirements` pins into a virtual environment of this name, unless it is there,
/// and returns the directory of its programs.
pub(crate) async fn environment(
    name: &str,
    requirements: &str,
    target_dir: &Path,
    steps: Steps,
) -> Result<PathBuf> {
    let home = target_dir.join("tools").join(name);
    let programs = home.join("bin");
    // Written last, so that it says what is completely there.
    let installed = home.join("installed.txt");
    if fs::read_to_string(&installed).is_ok_and(|text| text == requirements) {
        return Ok(programs);
    }
    steps.say(&format!("{name}: installing from PyPI"));
    let _ = fs::remove_dir_all(&home);
    fs::create_dir_all(&home).with_context(|| format!("{} cannot be made", home.display()))?;
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv"]).arg(&home);
    succeeded(venv).await.context(
        "no virtual environment can be made: install Python 3.10 or later with its venv module \
         (Debian: apt-get install python3-venv)",
    )?;
    let file = home.join("requirements.txt");
    fs::write(&file, requirements)?;
    let mut pip = Command::new(programs.join("python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
        .arg(&file);
    succeeded(pip).await.with_context(|| format!("{name} cannot be installed from PyPI"))?;
    fs::write(&installed, requirements)?;
    steps.say(&format!("{name}: installed"));
    Ok(programs)
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
