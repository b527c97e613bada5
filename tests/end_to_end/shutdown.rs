//! SIGTERM while there is work.

use std::time::Duration;

use anyhow::Result;
use end_to_end::{Load, System};
use testkit::eventually;

const SOON: Duration = Duration::from_secs(20);

async fn under_way(load: &Load) {
    eventually("writes are accepted", SOON, async || load.accepted() > 200).await;
}

#[tokio::test]
async fn a_gateway_that_is_stopped_under_load_fails_no_request_and_loses_no_write() -> Result<()> {
    let system = System::start().await?;
    let gateway = system.env.gateway().env("DRAIN_DELAY_MS", 1000).start().await?;
    let load = Load::start(&gateway.url(), 16)?;
    under_way(&load).await;
    // Clients leave as they are asked to, while the gateway still listens.
    let status = gateway.terminate(SOON).await?;
    assert!(status.success(), "{status}");
    let report = load.stop().await;
    assert_eq!(report.failures, Vec::<String>::new());
    for message in report.accepted {
        assert_eq!(system.read(&message).await?, Some(message));
    }
    Ok(())
}

#[tokio::test]
async fn a_worker_that_is_stopped_under_load_fails_no_request_and_loses_no_write() -> Result<()> {
    let system = System::start().await?;
    let second = system.env.storage_worker().start().await?;
    let load = Load::start(&system.gateway.url(), 16)?;
    under_way(&load).await;
    let status = second.terminate(SOON).await?;
    assert!(status.success(), "{status}");
    let so_far = load.accepted();
    eventually("the other worker goes on", SOON, async || load.accepted() > so_far + 200).await;
    let report = load.stop().await;
    assert_eq!(report.failures, Vec::<String>::new());
    assert_eq!(report.deferred, 0, "an outcome was lost");
    for message in report.accepted {
        assert_eq!(system.read(&message).await?, Some(message));
    }
    Ok(())
}

#[tokio::test]
async fn a_worker_that_is_killed_under_load_loses_no_write() -> Result<()> {
    let system = System::start().await?;
    let mut second = system.env.storage_worker().start().await?;
    let load = Load::start(&system.gateway.url(), 16)?;
    under_way(&load).await;
    second.kill()?;
    second.restart().await?;
    let so_far = load.accepted();
    eventually("writes go on", SOON, async || load.accepted() > so_far + 200).await;
    let report = load.stop().await;
    assert_eq!(report.failures, Vec::<String>::new());
    for message in report.accepted {
        let what = format!("{} is stored", message.id);
        eventually(
            &what,
            SOON,
            async || matches!(system.read(&message).await, Ok(Some(stored)) if stored == message),
        )
        .await;
    }
    assert_eq!(system.env.management().queue_depth("messages.dead").await?, 0);
    Ok(())
}
