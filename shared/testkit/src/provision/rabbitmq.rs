//! RabbitMQ: the installed one, else Debian's package. Only its scripts are used; the system broker that the
//! package brings is never started.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::{
    is_executable, on_path,
    package::{Package, server_install},
};
use crate::Progress;

/// The script that does not drop root, where packages for Debian, Ubuntu and Fedora place it.
const LIB_SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
/// Advice where it cannot be installed.
const ADVICE: &str = "RabbitMQ is needed: install it (Debian, Ubuntu: `apt-get install --no-install-recommends \
    rabbitmq-server`; macOS: `brew install rabbitmq`), or set RABBITMQ_URL to a running one";

/// Finds the `rabbitmq-server` script, or installs Debian's package (about 60 MB). The log goes under `target_dir`.
pub async fn provide_rabbitmq(target_dir: &Path, progress: &dyn Progress) -> Result<PathBuf> {
    let install = server_install("rabbitmq-server");
    let package = Package { program: "RabbitMQ", install, advice: ADVICE, find: installed };
    package.provide(target_dir, progress).await
}

/// Returns the script of the package's lib folder, or a `rabbitmq-server` on the `PATH` (Homebrew) that is not the
/// wrapper in `/usr/sbin`, which would switch to the user `rabbitmq`.
fn installed() -> Option<PathBuf> {
    let lib = PathBuf::from(LIB_SERVER);
    if is_executable(&lib) {
        return Some(lib);
    }
    let server = on_path("rabbitmq-server")?.canonicalize().ok()?;
    (!server.ends_with("rabbitmq-script-wrapper")).then_some(server)
}

/// Finds Erlang's port mapper: on the `PATH`, else among the files of the Erlang of `erl`.
pub(crate) fn find_epmd() -> Result<PathBuf> {
    if let Some(epmd) = on_path("epmd") {
        return Ok(epmd);
    }
    let erl = on_path("erl").context("RabbitMQ needs Erlang, and there is no `erl` on the PATH")?;
    let root = Command::new(erl)
        .args([
            "-noshell",
            "-boot",
            "start_clean",
            "-eval",
            "io:put_chars(code:root_dir()), halt().",
        ])
        .output()?;
    let root = PathBuf::from(String::from_utf8_lossy(&root.stdout).trim());
    let found = fs::read_dir(&root)
        .with_context(|| format!("{} cannot be read", root.display()))?
        .filter_map(Result::ok)
        .map(|entry| entry.path().join("bin/epmd"))
        .find(|epmd| is_executable(epmd));
    found.with_context(|| format!("no epmd below {}", root.display()))
}
