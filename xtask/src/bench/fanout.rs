//! `cargo xtask bench fanout`: the broadcaster, a bare loop of writes, and a FastAPI peer.

use anyhow::Result;
use testkit::Service;

use super::{Bench, asks_for_help};
use crate::{cargo, python, scratch_run::ScratchRun};

/// The package and its program, which makes the load, so it is built for release.
const PROGRAM: &str = "bench-fanout";

/// The peer's source, and the packages that it needs.
const PEER_DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../bench/peers/fastapi");
const PEER_REQUIREMENTS: &str = include_str!("../../../bench/peers/fastapi/chat-requirements.txt");

pub(super) async fn prepare(options: &[String], run: &ScratchRun) -> Result<Bench> {
    cargo::build(&["--release", "--bin", Service::Broadcaster.binary(), "--bin", PROGRAM]).await?;
    let bin_dir = run.target_dir.join("release");
    let path = bin_dir.join(PROGRAM);
    let out = run.target_dir.join("bench");
    let mut arguments = vec!["--out".to_owned(), out.display().to_string()];
    let mut environment = Vec::new();
    if !asks_for_help(options) {
        let python =
            python::provide(&run.target_dir, "fastapi-chat", PEER_REQUIREMENTS, &run.steps).await?;
        arguments.extend(["--peer-python".to_owned(), python.join("python").display().to_string()]);
        arguments.extend(["--peer-dir".to_owned(), PEER_DIR.to_owned()]);
        environment = run.programs(&bin_dir).await?;
    }
    arguments.extend_from_slice(options);
    Ok(Bench { program: PROGRAM, path, arguments, environment })
}
