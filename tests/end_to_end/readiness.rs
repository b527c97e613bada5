//! `/readyz` of each service under each fault of the broker and the database: the table in
//! docs/reliability.md.

use std::time::Duration;

use anyhow::{Result, ensure};
use end_to_end::{System, draft};
use serde_json::{Value, json};
use testkit::{
    PrivateBroker, PrivateMongod, ServiceProcess, Subscriber, TestEnvironment, eventually,
};

/// Maximum time until a fault shows, and until its end does: a frozen broker is noticed by missing
/// heartbeats.
const NOTICED: Duration = Duration::from_secs(40);

const SOON: Duration = Duration::from_secs(20);

/// All services, with two broadcasters, and a message to broadcast.
struct Services {
    system: System,
    leader: ServiceProcess,
    other: ServiceProcess,
}

impl Services {
    async fn start(env: TestEnvironment) -> Result<Self> {
        let system = System::start_in(env).await?;
        system.create("alice", "bob", "hello").await?;
        let leader = system.env.broadcaster().start().await?;
        let mut subscriber = Subscriber::connect(&leader.websocket_url("/api/chat")).await?;
        subscriber.next_text(SOON).await?;
        let other = system.env.broadcaster().start().await?;
        Ok(Self { system, leader, other })
    }

    async fn all_ready(&self) {
        let Self { system, leader, other } = self;
        for service in [&system.gateway, &system.worker, leader, other] {
            becomes(service, 200, "ready", &[]).await;
        }
    }
}

/// Waits until `/readyz` has this status, and exactly these dependencies are down.
async fn becomes(service: &ServiceProcess, code: u16, status: &str, down: &[&str]) -> Value {
    let name = service.process().name();
    eventually(&format!("{name} is {status} without {down:?}"), NOTICED, async || {
        let answer = service.api()?.get("/readyz").await?;
        let readiness: Value = answer.json()?;
        let dependencies = readiness["dependencies"].as_object().into_iter().flatten();
        let found: Vec<_> =
            dependencies.filter(|(_, state)| *state == "down").map(|(name, _)| name).collect();
        ensure!(answer.status == code && readiness["status"] == status, "{}", answer.text);
        ensure!(found == down, "{}", answer.text);
        Ok(readiness)
    })
    .await
}

async fn blocked_connections(service: &ServiceProcess) -> Result<f64> {
    let metrics = service.api()?.get("/metrics").await?.text;
    let mut values = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("messages_broker_blocked_connections "));
    Ok(values.next().unwrap_or("nothing").parse()?)
}

#[tokio::test]
async fn an_alarm_of_the_broker_degrades_and_is_named_and_an_outage_shows() -> Result<()> {
    let mut broker = PrivateBroker::start().await?;
    let env = TestEnvironment::builder().broker(&broker).build().await;
    let services = Services::start(env).await?;
    let Services { system, leader, other } = &services;
    let System { gateway, worker, .. } = system;
    services.all_ready().await;

    // Nobody writes, so services that publish nothing have to find out by themselves.
    broker.rabbitmqctl(&["set_disk_free_limit", "999GB"]).await?;
    for (service, blocked, down) in [
        (gateway, "rabbitmq_publish", &["rabbitmq_publish"][..]),
        (worker, "rabbitmq_replies", &["rabbitmq_replies"]),
        (leader, "rabbitmq_publish", &["frames", "rabbitmq_publish"]),
    ] {
        let readiness = becomes(service, 200, "degraded", down).await;
        assert_eq!(readiness["reasons"], json!({ blocked: "low on disk" }));
        assert!(blocked_connections(service).await? >= 1.0);
        assert!(service.log_text().contains("low on disk"));
    }
    becomes(other, 200, "degraded", &["frames"]).await;
    let refused = system.api.post("/api/messages", &draft("alice", "bob", "refused")).await?;
    assert_eq!(refused.status, 503);
    broker.rabbitmqctl(&["set_disk_free_limit", "10MB"]).await?;
    services.all_ready().await;
    for service in [gateway, worker, leader] {
        assert!(blocked_connections(service).await? < 1.0);
    }

    broker.freeze()?;
    broker_is_away(&services).await;
    broker.thaw()?;
    services.all_ready().await;

    broker.kill()?;
    broker_is_away(&services).await;
    broker.restart().await?;
    services.all_ready().await;
    Ok(())
}

async fn broker_is_away(services: &Services) {
    let Services { system, leader, other } = services;
    becomes(&system.gateway, 200, "degraded", &["rabbitmq_publish", "rabbitmq_replies"]).await;
    becomes(&system.worker, 503, "unready", &["rabbitmq", "rabbitmq_replies"]).await;
    for broadcaster in [leader, other] {
        let down = ["frames", "hints", "rabbitmq", "rabbitmq_publish"];
        becomes(broadcaster, 503, "unready", &down).await;
    }
}

#[tokio::test]
async fn a_full_queue_of_commands_degrades_the_gateway() -> Result<()> {
    let system = System::start().await?;
    let (gateway, _) = system.fill_queue().await?;
    becomes(&gateway, 200, "degraded", &["command_queue"]).await;
    // Nobody tries any more, so nobody knows.
    becomes(&gateway, 200, "ready", &[]).await;
    Ok(())
}

#[tokio::test]
async fn a_worker_that_cannot_dead_letter_is_unready() -> Result<()> {
    let broker = PrivateBroker::start().await?;
    let env = TestEnvironment::builder().broker(&broker).build().await;
    let system = System::start_in(env).await?;
    end_to_end::inject(&system.env, b"not JSON").await?;
    eventually("it is dead-lettered", SOON, async || {
        let depth = system.env.management().queue_depth("messages.dead").await?;
        ensure!(depth == 1, "{depth}");
        Ok(())
    })
    .await;
    // From here on, the worker's connection for dead letters has published.
    becomes(&system.worker, 200, "ready", &[]).await;
    let frozen = &system.worker;
    frozen.freeze()?;
    end_to_end::inject(&system.env, b"not JSON either").await?;
    broker.raise_alarm().await?;
    frozen.thaw()?;
    let readiness = becomes(frozen, 503, "unready", &["dead_letters", "rabbitmq_replies"]).await;
    assert_eq!(readiness["reasons"]["dead_letters"], "low on memory");
    broker.clear_alarm().await?;
    becomes(frozen, 200, "ready", &[]).await;
    Ok(())
}

#[tokio::test]
async fn without_mongodb_workers_are_unready_and_others_degraded() -> Result<()> {
    let mut mongod = PrivateMongod::start().await?;
    let env = TestEnvironment::builder().mongod(&mongod).build().await;
    let services = Services::start(env).await?;
    services.all_ready().await;

    mongod.step_down().await?;
    mongodb_is_away(&services).await;
    mongod.end_step_down().await?;
    services.all_ready().await;

    mongod.freeze()?;
    mongodb_is_away(&services).await;
    mongod.thaw()?;
    services.all_ready().await;

    mongod.kill()?;
    mongodb_is_away(&services).await;
    mongod.restart().await?;
    services.all_ready().await;
    Ok(())
}

async fn mongodb_is_away(services: &Services) {
    let Services { system, leader, other } = services;
    becomes(&system.gateway, 200, "degraded", &["mongodb"]).await;
    becomes(&system.worker, 503, "unready", &["mongodb"]).await;
    for broadcaster in [leader, other] {
        becomes(broadcaster, 200, "degraded", &["event_log", "frames", "mongodb"]).await;
    }
}
