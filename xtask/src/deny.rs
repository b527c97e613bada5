//! `cargo xtask deny`: the rules of `deny.toml` for dependencies.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use testkit::Steps;
use tokio::process::Command;

use crate::{
    cargo::{self, Running, exit_code},
    tool,
};

const VERSION: &str = "0.20.2";

/// Options of `cargo xtask deny`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Skip the advisories, which come from a repository on GitHub
    #[arg(long, conflicts_with = "advisories")]
    no_advisories: bool,
    /// Check the advisories alone
    #[arg(long)]
    advisories: bool,
}

/// Checks, and exits as cargo-deny does: with 0 where nothing is denied.
pub(crate) async fn run(options: &Options) -> Result<ExitCode> {
    let target_dir = cargo::target_dir().await?;
    let program = tool::provide(&target_dir, "cargo-deny", VERSION, Steps::begin()).await?;
    let checks: &[&str] = match options {
        Options { no_advisories: true, .. } => &["bans", "licenses", "sources"],
        Options { advisories: true, .. } => &["advisories"],
        _ => &[],
    };
    let mut command = Command::new(program);
    command.current_dir(cargo::project()?).args(["check", "--hide-inclusion-graph"]).args(checks);
    Ok(exit_code(Running::start(command)?.wait().await?))
}
