//! More than one of a service.

use anyhow::Result;
use end_to_end::{Load, System, created};
use testkit::{TestEnvironment, eventually};
use tokio::time::Duration;

#[tokio::test]
async fn two_workers_share_the_load() -> Result<()> {
    let env = TestEnvironment::new().await;
    let debug =
        |env: &TestEnvironment| env.storage_worker().env("RUST_LOG", "storage_worker=debug,info");
    let (first, second, gateway) =
        tokio::try_join!(debug(&env).start(), debug(&env).start(), env.gateway().start())?;
    let load = Load::start(&gateway.url(), 8)?;
    let applied = |worker: &testkit::ServiceProcess| {
        worker.log_text().lines().filter(|line| line.contains("group applied")).count()
    };
    eventually("both workers apply commands", Duration::from_secs(20), async || {
        applied(&first) > 5 && applied(&second) > 5
    })
    .await;
    let report = load.stop().await;
    assert_eq!(report.failures, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn what_one_gateway_answers_another_can_read() -> Result<()> {
    let system = System::start().await?;
    let other = system.env.gateway().start().await?;
    let api = other.api()?;
    for number in 0..20 {
        let message = created(&api, "alice", "bob", &format!("number {number}")).await?;
        assert_eq!(system.read(&message).await?, Some(message));
    }
    Ok(())
}
