//! Unused dependencies, found by cargo-machete.

use std::time::Duration;

use anyhow::Result;
use testkit::Steps;
use tokio::process::Command;

use super::verdict::{Verdict, available};
use crate::{cargo, command, tool};

const VERSION: &str = "0.9.2";

/// Maximum time of a run, which reads all sources.
const RUN_LIMIT: Duration = Duration::from_mins(2);

/// Checks that every crate uses each dependency that its manifest names. Skipped where cargo-machete
/// cannot be built, except in CI.
pub(super) async fn check() -> Result<Verdict> {
    let target_dir = cargo::target_dir().await?;
    let machete = tool::provide(&target_dir, "cargo-machete", VERSION, Steps::begin()).await;
    let Some(machete) = available(machete)? else { return Ok(Verdict::Skipped) };
    let mut machete = Command::new(machete);
    // With `CARGO` it takes itself for a subcommand of cargo, and expects its own name as an argument.
    machete.current_dir(cargo::project()?).env_remove("CARGO");
    Ok(command::status(machete, RUN_LIMIT).await?.success().into())
}
