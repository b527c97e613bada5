//! The private servers under what tests do to them. Needs what `cargo xtask test` starts.

use std::time::{Duration, Instant};

use serde_json::json;
use testkit::{
    Management, PrivateBroker, PrivateMongod, ProcessId, TestEnvironment, eventually, settings,
};

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_vhost_goes_with_its_environment() {
    let environment = TestEnvironment::new().await;
    let (management, vhost) = (environment.management().clone(), environment.vhost().to_owned());
    management.declare_queue("mail", json!({})).await.unwrap();
    assert!(environment.rabbitmq_url().ends_with(&vhost));
    let others = TestEnvironment::new().await;
    assert_ne!(others.vhost(), vhost);
    assert_ne!(others.database(), environment.database());
    drop(environment);
    assert!(management.queues().await.is_err());
}

#[tokio::test]
async fn messages_are_published_counted_shown_and_taken() {
    let environment = TestEnvironment::new().await;
    let management = environment.management();
    let quorum = json!({ "x-queue-type": "quorum" });
    for (queue, arguments) in [("classic", json!({})), ("quorum", quorum)] {
        management.declare_queue(queue, arguments).await.unwrap();
        let properties = json!({ "message_id": "m1", "headers": { "x-why": "test" } });
        let routed = management.publish("", queue, &[0xff, 0x00, b'a'], properties).await.unwrap();
        assert!(routed);
        for _ in 0..9 {
            management.publish("", queue, b"more", json!({})).await.unwrap();
        }
        assert_eq!(management.queue_depth(queue).await.unwrap(), 10, "{queue}");
        assert_eq!(management.peek(queue, 1).await.unwrap().len(), 1);
        let taken = management.take(queue, 100).await.unwrap();
        assert_eq!(taken.len(), 10);
        let first =
            taken.iter().find(|message| message.properties.contains_key("message_id")).unwrap();
        assert_eq!(first.payload, [0xff, 0x00, b'a']);
        assert_eq!(first.headers.get("x-why").unwrap(), "test");
        assert_eq!(management.queue_depth(queue).await.unwrap(), 0, "{queue}");
    }
    assert!(!management.publish("", "nowhere", b"lost", json!({})).await.unwrap());
}

#[tokio::test]
async fn a_policy_limits_a_queue_until_it_is_cleared() {
    let environment = TestEnvironment::new().await;
    let management = environment.management();
    management.declare_queue("short", json!({})).await.unwrap();
    let definition = json!({ "max-length": 1, "overflow": "reject-publish" });
    management.set_policy("limit", "^short$", definition).await.unwrap();
    eventually("the limit to bite", SOON, async || {
        management.publish("", "short", b"x", json!({})).await.ok()?;
        (management.queue_depth("short").await.ok()? == 1).then_some(())
    })
    .await;
    management.clear_policy("limit").await.unwrap();
    eventually("the limit to be gone", SOON, async || {
        let _ = management.publish("", "short", b"x", json!({})).await;
        management.queue_depth("short").await.is_ok_and(|depth| depth > 1)
    })
    .await;
}

#[tokio::test]
async fn a_broker_survives_a_kill_a_stop_and_a_freeze() {
    let mut broker = PrivateBroker::start().await.unwrap();
    let environment = TestEnvironment::builder().broker(&broker).build().await;
    let management = environment.management().clone();
    management.declare_queue("kept", json!({ "x-queue-type": "quorum" })).await.unwrap();
    management.publish("", "kept", b"one", json!({})).await.unwrap();

    // A queue that was declared a moment before a kill may be lost, so it is the stop that comes first.
    broker.stop().await.unwrap();
    assert!(management.ping().await.is_err());
    broker.restart().await.unwrap();
    depth_becomes(&management, 1).await;

    management.publish("", "kept", b"two", json!({})).await.unwrap();
    broker.kill().unwrap();
    broker.restart().await.unwrap();
    depth_becomes(&management, 2).await;

    broker.freeze().unwrap();
    let silence = Duration::from_millis(300);
    assert!(tokio::time::timeout(silence, management.ping()).await.is_err());
    broker.thaw().unwrap();
    depth_becomes(&management, 2).await;

    let alarms = async || broker.rabbitmqctl(&["--quiet", "status"]).await.unwrap();
    broker.raise_alarm().await.unwrap();
    assert!(alarms().await.contains("Memory alarm"));
    broker.clear_alarm().await.unwrap();
    assert!(!alarms().await.contains("Memory alarm"));

    let processes = [broker.pid(), broker.epmd().pid()].map(|pid| ProcessId::of(pid).unwrap());
    drop(broker);
    assert!(!processes.iter().any(ProcessId::is_alive));
}

#[tokio::test]
async fn a_database_survives_a_kill_a_stop_and_a_freeze() {
    let mut mongod = PrivateMongod::start().await.unwrap();
    mongod.kill().unwrap();
    assert!(dropped(&mongod.url()).await.is_err());
    mongod.restart().await.unwrap();
    dropped(&mongod.url()).await.unwrap();

    let begun = Instant::now();
    mongod.stop().await.unwrap();
    assert!(begun.elapsed() < SOON);
    mongod.restart().await.unwrap();
    dropped(&mongod.url()).await.unwrap();

    mongod.freeze().unwrap();
    let uri = mongod.url();
    let mut frozen = tokio::spawn(async move { dropped(&uri).await });
    let answered = tokio::time::timeout(Duration::from_millis(300), &mut frozen).await;
    assert!(answered.is_err(), "a frozen server answered: {answered:?}");
    mongod.thaw().unwrap();
    frozen.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_shared_standalone_server_takes_writes() {
    let environment = TestEnvironment::builder().standalone_mongod().build().await;
    assert_eq!(
        environment.mongo_uri(),
        settings::required(settings::STANDALONE_MONGO_URI).unwrap()
    );
    dropped(environment.mongo_uri()).await.unwrap();
}

async fn depth_becomes(management: &Management, expected: u64) {
    eventually("the queue to hold what it held", SOON, async || {
        match management.queue_depth("kept").await {
            Ok(depth) if depth == expected => Ok(()),
            other => Err(other),
        }
    })
    .await;
}

/// A round trip that needs a primary.
async fn dropped(uri: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let uri =
        format!("{uri}{}serverSelectionTimeoutMS=10000", if uri.contains('?') { "&" } else { "?" });
    let dropped = tokio::time::timeout(SOON, store::admin::drop_database(&uri, "round-trip"));
    Ok(dropped.await??)
}
