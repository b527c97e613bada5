//! Misspelled words, found by typos. `typos.toml` lists the exceptions.

use std::time::Duration;

use anyhow::Result;
use testkit::Steps;
use tokio::process::Command;

use super::verdict::{Verdict, available};
use crate::{cargo, command, python};

const REQUIREMENTS: &str = include_str!("../../typos/requirements.txt");

/// Maximum time of a run, which reads all files.
const RUN_LIMIT: Duration = Duration::from_mins(2);

/// Checks the spelling in all files of the project. Skipped where typos cannot be installed, except in CI.
pub(super) async fn check() -> Result<Verdict> {
    let target_dir = cargo::target_dir().await?;
    let programs = python::provide(&target_dir, "typos", REQUIREMENTS, &Steps::begin()).await;
    let Some(programs) = available(programs)? else { return Ok(Verdict::Skipped) };
    let mut typos = Command::new(programs.join("typos"));
    typos.args(["--format", "brief"]).current_dir(cargo::project()?);
    Ok(command::status(typos, RUN_LIMIT).await?.success().into())
}
