//! Cargo as seen from inside `cargo run`: where it puts things, and running it again.

use std::{
    env,
    path::{Path, PathBuf},
    process::{ExitCode, ExitStatus, Stdio},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde::Deserialize;
use testkit::Service;
use tokio::process::{Child, ChildStdout, Command};

/// Returns cargo's target directory, however it is configured.
pub(crate) async fn target_dir() -> Result<PathBuf> {
    #[derive(Deserialize)]
    struct Metadata {
        target_directory: PathBuf,
    }
    let output = command(&["metadata", "--no-deps", "--format-version", "1"]).output().await;
    let output = output.context("cargo cannot be started")?;
    if !output.status.success() {
        bail!("cargo metadata failed\n{}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
    Ok(metadata.target_directory)
}

/// Returns the project's directory, whatever the working directory is.
pub(crate) fn project() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has a parent")
}

/// Builds the services' binaries, cargo's own output visible, and returns their directory.
pub(crate) async fn build_services(release: bool) -> Result<PathBuf> {
    let mut arguments = Vec::new();
    for service in Service::ALL {
        arguments.extend(["--bin", service.binary()]);
    }
    if release {
        arguments.push("--release");
    }
    build(&arguments).await?;
    Ok(target_dir().await?.join(if release { "release" } else { "debug" }))
}

/// Builds what the arguments say, cargo's own output visible.
pub(crate) async fn build(arguments: &[&str]) -> Result<()> {
    let status = Running::start(command(&[&["build"], arguments].concat()))?.wait().await?;
    if !status.success() {
        bail!("cargo build {} has failed ({status})", arguments.join(" "));
    }
    Ok(())
}

/// Returns the exit code of a program as this program's own; failure where a signal ended it.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Returns a cargo command without what the cargo around us has set for this program: some build scripts
/// watch those variables, and would rebuild their crates each time.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&*name);
        }
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// A program in a process group of its own, so that nothing that it starts survives it.
pub(crate) struct Running {
    child: Child,
    group: Pid,
}

impl Running {
    /// Starts it.
    pub(crate) fn start(mut command: Command) -> Result<Self> {
        let child = command.process_group(0).spawn().context("the program cannot be started")?;
        let pid = child.id().context("a program that runs has a process id")?;
        Ok(Self { child, group: Pid::from_raw(pid.try_into()?) })
    }

    /// Returns its process id, which is its group's too.
    pub(crate) fn pid(&self) -> Result<u32> {
        Ok(self.group.as_raw().try_into()?)
    }

    /// Returns its standard output, where its command has that piped.
    pub(crate) fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Waits for its end, and kills what is left of its group.
    pub(crate) async fn wait(mut self) -> Result<ExitStatus> {
        Ok(self.child.wait().await?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that nothing is left.
        let _ = killpg(self.group, Signal::SIGKILL);
    }
}
