//! The real services as child processes. Needs what `cargo xtask test` starts.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Proxy, Subscriber, TestEnvironment, eventually};

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_service_restarts_on_its_port_and_the_others_find_it() {
    let environment = TestEnvironment::new().await;
    let _worker = environment.storage_worker().start().await.unwrap();
    let broadcaster =
        environment.broadcaster().env("BROADCAST_INTERVAL_MS", 100).start().await.unwrap();
    let mut gateway = environment.gateway().start().await.unwrap();
    let message = json!({ "from_user_id": "alice", "to_user_id": "bob", "content": "hello" });
    let answer = gateway.api().unwrap().post("/api/messages", &message).await.unwrap();
    assert_eq!(answer.status, 201, "{}", answer.text);
    let stored: Value = answer.json().unwrap();

    let mut subscriber =
        Subscriber::connect(&broadcaster.websocket_url("/api/chat")).await.unwrap();
    assert_eq!(subscriber.next_json::<Value>(SOON).await.unwrap(), stored);

    let address = gateway.address().to_owned();
    gateway.kill().unwrap();
    gateway.restart().await.unwrap();
    assert_eq!(gateway.address(), address);
    let location = answer.header("location").unwrap();
    assert_eq!(
        gateway.api().unwrap().get(location).await.unwrap().json::<Value>().unwrap(),
        stored
    );
    assert!(gateway.terminate(SOON).await.unwrap().success());
}

#[tokio::test]
async fn a_service_is_cut_off_by_a_proxy_and_comes_back() {
    let environment = TestEnvironment::new().await;
    let (amqp, rabbitmq_url) = Proxy::in_front_of(&environment.rabbitmq_url()).await.unwrap();
    let (mongo, mongo_uri) = Proxy::in_front_of(environment.mongo_uri()).await.unwrap();
    let worker =
        environment.storage_worker().env("RABBITMQ_URL", rabbitmq_url).env("MONGO_URI", mongo_uri);
    let worker = worker.start().await.unwrap();
    assert!(amqp.connections() > 0 && mongo.connections() > 0);

    amqp.refuse(true);
    amqp.cut().await;
    let api = worker.api().unwrap();
    eventually("the worker to be unready", SOON, async || {
        api.get("/readyz").await.is_ok_and(|answer| answer.status == 503)
    })
    .await;
    amqp.refuse(false);
    worker.ready().await.unwrap();
}
