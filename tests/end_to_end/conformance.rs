//! The broadcaster before clients that are not ours: a browser, and `websockets`, a Python package.
//! `cargo xtask test` installs both. What no client can be made to send is tested byte by byte in the
//! broadcaster's own tests.

pub(crate) mod browser;

use std::{fs, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use contracts::Message;
use end_to_end::System;
use testkit::{Group, Process, eventually, settings};

use crate::events::Streams;

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

/// Returns the first example in this language of the documentation of events.
fn example(language: &str) -> Result<String> {
    let start = format!("```{language}\n");
    let document = include_str!("../../docs/events.md");
    let rest = document.split_once(&start).context("no example")?.1;
    Ok(rest.split("```").next().unwrap_or_default().to_owned())
}

/// Waits until a process has printed that this message was created.
async fn printed(process: &Process, message: &Message) {
    let text = message.content.as_str();
    eventually(&format!("it prints {text}"), LIMIT, async || {
        let ended = process.try_exit().ok().flatten();
        assert!(ended.is_none(), "{}", process.log_tail());
        ensure!(process.log_text().contains(text), "not yet");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn the_documented_client_in_python_follows_across_a_restart() -> Result<()> {
    let mut streams = Streams::start().await?;
    let url = streams.broadcaster.websocket_url("/api/events?user_id=alice");
    let code = example("python")?.replace("ws://localhost:8001/api/events?user_id=alice", &url);
    assert!(code.contains(&url), "{code}");
    let handle = "def handle(event): print(event, flush=True)\n";
    let file = streams.system.env.dir().join("follow.py");
    fs::write(&file, format!("{handle}{code}"))?;
    let mut script = Command::new("python3");
    script.arg("-B").arg(file);
    script.env("PYTHONPATH", settings::required(settings::PYTHON_PACKAGES)?);
    let log = streams.system.env.dir().join("follow.log");
    let script = Process::spawn("follow", script, &log, Group::Callers)?;
    eventually("it follows", LIMIT, async || script.log_text().contains("'ready'")).await;
    printed(&script, &streams.system.create("alice", "bob", "before").await?).await;
    streams.broadcaster.kill()?;
    let missed = streams.system.create("alice", "bob", "meanwhile").await?;
    streams.restart_broadcaster(&[]).await?;
    printed(&script, &missed).await;
    printed(&script, &streams.system.create("alice", "bob", "afterwards").await?).await;
    script.kill()
}

#[tokio::test]
async fn curl_prints_events_as_they_come() -> Result<()> {
    let streams = Streams::start().await?;
    for service in [&streams.broadcaster, &streams.system.gateway] {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-N", "-H", "accept: text/event-stream"]);
        curl.arg(format!("{}/api/events?user_id=alice&with=bob", service.url()));
        let log = streams.system.env.dir().join(format!("curl-{}.log", service.pid()));
        let curl = Process::spawn("curl", curl, &log, Group::Callers).context("curl is needed")?;
        eventually("it follows", LIMIT, async || curl.log_text().contains("event: ready")).await;
        printed(&curl, &streams.system.create("alice", "bob", "hello").await?).await;
        curl.kill()?;
    }
    Ok(())
}
