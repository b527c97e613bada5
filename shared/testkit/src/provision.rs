//! Where the two servers' programs come from: what the machine has, else what can be fetched
//! without a vendor's own host. Several provisioners at a time do not disturb each other.

mod fetch;
mod mongod;
mod rabbitmq;

pub use mongod::provide_mongod;
pub(crate) use rabbitmq::find_epmd;
pub use rabbitmq::provide_rabbitmq;

use std::{
    env,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
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
