//! The broadcaster before clients that are not ours: a browser, and `websockets`, a Python package.
//! `cargo xtask test` installs both. What no client can be made to send is tested byte by byte in the
//! broadcaster's own tests.

mod browser;

use std::{process::Command, time::Duration};

use anyhow::Result;
use end_to_end::System;
use testkit::{Group, Process, eventually, settings};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/end_to_end/conformance/client.py");

/// Longest time for all that the script does.
const LIMIT: Duration = Duration::from_mins(2);

#[tokio::test]
async fn a_client_in_python_finds_what_rfc_6455_says() -> Result<()> {
    let system = System::start().await?;
    system.create("alice", "bob", "hello").await?;
    let broadcaster = system.env.broadcaster().env("BROADCAST_INTERVAL_MS", 100).start().await?;
    let mut script = Command::new("python3");
    script
        .args(["-B", SCRIPT, &broadcaster.websocket_url("/api/chat")])
        .env("PYTHONPATH", settings::required(settings::PYTHON_PACKAGES)?);
    let log = system.env.dir().join("conformance.log");
    let script = Process::spawn("conformance", script, &log, Group::Callers)?;
    eventually("the last scenario", LIMIT, async || {
        let log = script.log_text();
        let ended = script.try_exit().ok().flatten();
        assert!(ended.is_none(), "{}", script.log_tail());
        log.contains("waiting for the end")
    })
    .await;
    broadcaster.terminate(LIMIT).await?;
    let status = script.exited(LIMIT).await?;
    assert!(status.success(), "{}", script.log_tail());
    Ok(())
}
