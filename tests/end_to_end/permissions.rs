//! Permissions of the services' users in broker and database: as much as the service needs, and hardly more.
//! Those of the broker are in `definitions.json`, which compose and the local overlay import, those of the
//! database in docs/deployment.md.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use contracts::Message;
use end_to_end::{created, inject};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{PrivateMongod, Service, ServiceBuilder, Subscriber, TestEnvironment, eventually};

const SOON: Duration = Duration::from_secs(30);

const DEFINITIONS: &str = include_str!("../../k8s/overlays/local/rabbitmq/definitions.json");

/// Gives the test's vhost the users and the permissions that the definitions have for `/`.
async fn import(env: &TestEnvironment) -> Result<()> {
    let mut definitions: Value = serde_json::from_str(DEFINITIONS)?;
    definitions["vhosts"] = json!([{ "name": env.vhost() }]);
    let permissions = definitions["permissions"].as_array_mut().context("no permissions")?;
    for permission in permissions {
        permission["vhost"] = env.vhost().into();
    }
    env.management().call(Method::POST, "/api/definitions", Some(definitions)).await.map(drop)
}

/// A service that connects as the user of another one, or its own.
fn as_user(env: &TestEnvironment, service: Service, user: Service) -> Result<ServiceBuilder> {
    let url = env.rabbitmq_url();
    let (_, place) = url.split_once('@').context("an AMQP URL with a user was expected")?;
    let user = user.binary();
    let url = format!("amqp://{user}:{user}-local@{place}");
    Ok(env.service(service).env("RABBITMQ_URL", url))
}

#[tokio::test]
async fn each_service_works_with_the_permissions_of_its_user_and_not_with_those_of_another()
-> Result<()> {
    let env = TestEnvironment::new().await;
    import(&env).await?;
    let start = async |service| as_user(&env, service, service)?.start().await;
    let (_worker, gateway, broadcaster) = tokio::try_join!(
        start(Service::StorageWorker),
        start(Service::Gateway),
        start(Service::Broadcaster)
    )?;
    let message = created(&gateway.api()?, "alice", "bob", "hello").await?;
    let mut subscriber = Subscriber::connect(&broadcaster.websocket_url("/api/chat")).await?;
    assert_eq!(subscriber.next_json::<Message>(SOON).await?, message);

    inject(&env, b"not JSON").await?;
    let tool = async |arguments: &[&str]| -> Result<String> {
        let builder = as_user(&env, Service::StorageWorker, Service::StorageWorker)?;
        let builder = arguments.iter().fold(builder.arg("dead-letters"), |it, word| it.arg(*word));
        Ok(String::from_utf8(builder.output(SOON).await?.stdout)?)
    };
    eventually("the invalid delivery is dead-lettered", SOON, async || {
        tool(&["list"]).await.is_ok_and(|listed| listed.ends_with("1 of 1 shown\n"))
    })
    .await;
    assert!(tool(&["replay", "--all"]).await?.starts_with("replayed"));

    // A gateway's user cannot become leader, a worker's cannot consume replies, and a broadcaster's cannot read
    // commands.
    for (service, user) in [
        (Service::Broadcaster, Service::Gateway),
        (Service::Broadcaster, Service::StorageWorker),
        (Service::Gateway, Service::StorageWorker),
        (Service::Gateway, Service::Broadcaster),
        (Service::StorageWorker, Service::Broadcaster),
    ] {
        let intruder = as_user(&env, service, user)?.start_unready().await?;
        let what = format!("{service:?} is refused as {user:?}");
        eventually(&what, SOON, async || {
            intruder.log_text().contains("ACCESS_REFUSED").then_some(())
        })
        .await;
    }
    Ok(())
}

#[tokio::test]
async fn each_service_works_with_the_role_of_its_user_in_the_database() -> Result<()> {
    let mut mongod = PrivateMongod::start_standalone().await?;
    let env = TestEnvironment::builder().mongod(&mongod).build().await;
    for (service, role) in [
        (Service::StorageWorker, "readWrite"),
        (Service::Gateway, "read"),
        (Service::Broadcaster, "read"),
    ] {
        let (user, database) = (service.binary(), env.database());
        store::admin::create_user(&mongod.url(), user, "secret", role, database).await?;
    }
    mongod.require_users().await?;
    let as_user = |service: Service, user: Service| {
        let credentials = format!("mongodb://{}:secret@", user.binary());
        env.service(service).env("MONGO_URI", mongod.url().replace("mongodb://", &credentials))
    };

    // A worker that may not write holds what it has, and says why.
    let reader = as_user(Service::StorageWorker, Service::Gateway).start_unready().await?;
    eventually("it says that it may not", SOON, async || {
        reader.log_text().contains("not authorized").then_some(())
    })
    .await;
    drop(reader);
    let stranger = env.gateway().start_unready().await?;
    eventually("without a user nobody may read", SOON, async || {
        let answer = stranger.api()?.get("/api/messages?from_user_id=a&to_user_id=b").await?;
        ensure!(answer.status >= 500, "{}", answer.status);
        ensure!(!answer.text.contains("authoriz"), "{}", answer.text);
        Ok(())
    })
    .await;

    let start = async |service| as_user(service, service).start().await;
    let (_worker, gateway, broadcaster) = tokio::try_join!(
        start(Service::StorageWorker),
        start(Service::Gateway),
        start(Service::Broadcaster)
    )?;
    let api = gateway.api()?;
    let message = created(&api, "alice", "bob", "hello").await?;
    let mut subscriber = Subscriber::connect(&broadcaster.websocket_url("/api/chat")).await?;
    assert_eq!(subscriber.next_json::<Message>(SOON).await?, message);
    let path = format!("/api/messages/{}", message.id);
    let edit = api.request(Method::PUT, &path).json(&json!({ "content": "hello, Bob" }));
    assert_eq!(api.send(edit).await?.status, 200);
    let listed = api.get("/api/messages?from_user_id=alice&to_user_id=bob").await?;
    assert_eq!(listed.json::<Vec<Message>>()?.len(), 1);
    assert_eq!(api.send(api.request(Method::DELETE, &path)).await?.status, 204);
    Ok(())
}
