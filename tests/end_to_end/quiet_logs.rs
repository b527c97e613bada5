//! What services write to their logs during an outage, and what the broker writes when they stop.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use end_to_end::{System, inject};
use testkit::{PrivateBroker, PrivateMongod, ServiceProcess, TestEnvironment, eventually};

const SOON: Duration = Duration::from_secs(20);

/// Least time of an outage. Without a bound, a service tries and complains every 2 s at the latest.
const OUTAGE: Duration = Duration::from_secs(12);

/// Maximum number of lines of one service about an outage of both servers: what it lost and got back.
/// While it lasts, each of [`MAX_LOSSES`] is repeated once a minute.
const MAX_LINES: usize = 2 * MAX_LOSSES + 2;

/// Maximum number of things that one service tries again.
const MAX_LOSSES: usize = 6;

fn lines(service: &ServiceProcess) -> usize {
    service.log_text().lines().count()
}

async fn becomes_ready(service: &ServiceProcess) {
    eventually("it is ready again", SOON, async || {
        let readiness = service.api()?.get("/readyz").await?;
        ensure!(readiness.text.contains("\"status\":\"ready\""), "{}", readiness.text);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn an_outage_is_logged_when_it_begins_and_when_it_ends() -> Result<()> {
    let (mut broker, mut mongod) =
        tokio::try_join!(PrivateBroker::start(), PrivateMongod::start())?;
    let env = TestEnvironment::builder().broker(&broker).mongod(&mongod).build().await;
    let system = System::start_in(env).await?;
    system.create("alice", "bob", "hello").await?;
    let broadcaster = system.env.broadcaster().start().await?;
    let services = [&system.gateway, &system.worker, &broadcaster];
    for service in services {
        becomes_ready(service).await;
    }
    let waiting = system.env.gateway().env("WRITE_WAIT_MS", 0).start().await?;
    let before = services.map(lines);

    mongod.kill()?;
    // The worker takes a command that it cannot apply.
    let draft = end_to_end::draft("alice", "bob", "waits");
    assert_eq!(waiting.api()?.post("/api/messages", &draft).await?.status, 202);
    eventually("it retries", SOON, async || {
        system.worker.log_text().contains("failed to apply commands")
    })
    .await;
    broker.kill()?;
    let begun = Instant::now();
    eventually("the outage is long", 2 * OUTAGE, async || begun.elapsed() > OUTAGE).await;
    mongod.restart().await?;
    broker.restart().await?;
    for service in services {
        becomes_ready(service).await;
    }
    let minutes = usize::try_from(begun.elapsed().as_secs() / 60)?;
    let max_lines = MAX_LINES + MAX_LOSSES * minutes;
    for (service, before) in services.into_iter().zip(before) {
        let log = service.log_text();
        let new: Vec<_> = log.lines().skip(before).collect();
        assert!(new.len() <= max_lines, "{} lines:\n{}", new.len(), new.join("\n"));
        for told in ["cannot reach MongoDB", "can reach MongoDB again"] {
            assert!(new.iter().any(|line| line.contains(told)), "{told}:\n{}", new.join("\n"));
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_stopped_service_closes_its_connections_as_amqp_asks() -> Result<()> {
    let broker = PrivateBroker::start().await?;
    let env = TestEnvironment::builder().broker(&broker).build().await;
    let system = System::start_in(env).await?;
    system.create("alice", "bob", "hello").await?;
    inject(&system.env, b"not JSON").await?;
    eventually("it is dead-lettered", SOON, async || {
        let depth = system.env.management().queue_depth("messages.dead").await?;
        ensure!(depth == 1, "{depth}");
        Ok(())
    })
    .await;
    let leader = system.env.broadcaster().start().await?;
    let other = system.env.broadcaster().start().await?;
    let System { worker, gateway, .. } = &system;
    for service in [&other, &leader, gateway, worker] {
        becomes_ready(service).await;
        assert!(service.terminate(SOON).await?.success());
    }
    eventually("all connections are closed", SOON, async || {
        let connections = system.env.management().connections().await?;
        ensure!(connections.is_empty(), "{connections:?}");
        Ok(())
    })
    .await;
    let log = broker.process().log_text();
    let complaints: Vec<_> =
        log.lines().filter(|line| line.contains("unexpectedly closed")).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    Ok(())
}
