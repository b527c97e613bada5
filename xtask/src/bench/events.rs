//! `cargo xtask bench events`: how soon events reach their subscribers.

use anyhow::Result;

use super::{Bench, asks_for_help};
use crate::{cargo, scratch_run::ScratchRun};

/// The package and its program, which makes the load, so it is built for release.
const PROGRAM: &str = "bench-events";

pub(super) async fn prepare(options: &[String], run: &ScratchRun) -> Result<Bench> {
    cargo::build(&["--release", "--bin", PROGRAM]).await?;
    let out = run.target_dir.join("bench");
    let mut arguments = vec!["--out".to_owned(), out.display().to_string()];
    arguments.extend_from_slice(options);
    let environment = if asks_for_help(options) {
        Vec::new()
    } else {
        run.programs(&cargo::build_services(true).await?).await?
    };
    let path = run.target_dir.join("release").join(PROGRAM);
    Ok(Bench { program: PROGRAM, path, arguments, environment })
}
