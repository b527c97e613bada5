//! Services that start before what they stand on.

use std::time::Duration;

use anyhow::{Result, ensure};
use contracts::Message;
use end_to_end::{created, draft};
use reqwest::Method;
use serde_json::Value;
use testkit::{
    PrivateBroker, PrivateMongod, ServiceProcess, Subscriber, TestEnvironment, eventually,
};

const SOON: Duration = Duration::from_secs(30);

/// A broker and a database that are known to the services, and dead.
async fn nothing_runs() -> Result<(PrivateBroker, PrivateMongod, TestEnvironment)> {
    let (broker, mongod) = tokio::try_join!(PrivateBroker::start(), PrivateMongod::start())?;
    let env = TestEnvironment::builder().broker(&broker).mongod(&mongod).build().await;
    broker.kill()?;
    mongod.kill()?;
    Ok((broker, mongod, env))
}

/// Waits until the service says this of MongoDB, and at the same time that it is not ready.
async fn waits(service: &ServiceProcess, mongodb: &str) -> Result<()> {
    let api = service.api()?;
    eventually("it waits for the broker", SOON, async || {
        let answer = api.get("/readyz").await?;
        let body: Value = answer.json()?;
        ensure!(answer.status == 503 && body["dependencies"]["mongodb"] == mongodb, "{body}");
        Ok(())
    })
    .await;
    ensure!(api.get("/livez").await?.status == 200);
    Ok(())
}

#[tokio::test]
async fn the_broker_may_come_before_the_database_and_each_service_when_it_likes() -> Result<()> {
    let (mut broker, mut mongod, env) = nothing_runs().await?;
    let gateway = env.gateway().start_unready().await?;
    waits(&gateway, "down").await?;
    broker.restart().await?;
    // There is neither a worker nor a database yet.
    let api = gateway.api()?;
    let message = eventually("a gateway without its database takes a write", SOON, async || {
        let request = api.request(Method::POST, "/api/messages").header("prefer", "respond-async");
        let answer = api.send(request.json(&draft("alice", "bob", "early"))).await?;
        ensure!(answer.status == 202, "{} {}", answer.status, answer.text);
        answer.json::<Message>()
    })
    .await;
    let worker = env.storage_worker().start_unready().await?;
    waits(&worker, "down").await?;
    mongod.restart().await?;
    for service in [&gateway, &worker] {
        service.ready().await?;
    }
    let broadcaster = env.broadcaster().start().await?;
    let mut subscriber = Subscriber::connect(&broadcaster.websocket_url("/api/chat")).await?;
    assert_eq!(subscriber.next_json::<Message>(SOON).await?, message);
    Ok(())
}

#[tokio::test]
async fn services_may_start_before_the_database_and_the_broker() -> Result<()> {
    let (mut broker, mut mongod, env) = nothing_runs().await?;
    let broadcaster = env.broadcaster().start_unready().await?;
    let gateway = env.gateway().start_unready().await?;
    let worker = env.storage_worker().start_unready().await?;
    let services = [&broadcaster, &gateway, &worker];
    for service in services {
        waits(service, "down").await?;
    }
    // A subscriber may be there before anything else is.
    let mut subscriber = Subscriber::connect(&broadcaster.websocket_url("/api/chat")).await?;
    mongod.restart().await?;
    for service in services {
        waits(service, "up").await?;
    }
    broker.restart().await?;
    for service in services {
        service.ready().await?;
    }
    let message = created(&gateway.api()?, "alice", "bob", "hello").await?;
    assert_eq!(subscriber.next_json::<Message>(SOON).await?, message);
    Ok(())
}
