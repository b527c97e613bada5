//! `cargo xtask bench fanout`: the broadcaster, a bare loop of writes, and a FastAPI peer.

use std::path::Path;

use anyhow::Result;
use testkit::Service;

use super::{Measurer, asks_for_help, build, servers};
use crate::{console::Steps, python};

/// The package and the program that measures. It makes the load, so it is built for release.
const PROGRAM: &str = "bench-fanout";

/// The peer's source, and what it runs on.
const PEER_DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../bench/peers/fastapi");
const PEER_REQUIREMENTS: &str = include_str!("../../../bench/peers/fastapi/chat-requirements.txt");

pub(super) async fn prepare(
    options: &[String],
    target_dir: &Path,
    steps: Steps,
) -> Result<Measurer> {
    build(&["--release", "--bin", Service::Broadcaster.binary(), "--bin", PROGRAM]).await?;
    let bin_dir = target_dir.join("release");
    let path = bin_dir.join(PROGRAM);
    let mut arguments = vec!["--out".to_owned(), target_dir.join("bench").display().to_string()];
    let mut environment = Vec::new();
    if !asks_for_help(options) {
        let python = python::provide(target_dir, "fastapi-chat", PEER_REQUIREMENTS, &steps).await?;
        arguments.extend(["--peer-python".to_owned(), python.join("python").display().to_string()]);
        arguments.extend(["--peer-dir".to_owned(), PEER_DIR.to_owned()]);
        environment = servers(bin_dir, target_dir, steps).await?;
    }
    arguments.extend_from_slice(options);
    Ok(Measurer { program: PROGRAM, path, arguments, environment })
}
