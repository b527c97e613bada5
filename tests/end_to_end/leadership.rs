//! Leadership, and the frames when something fails.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use anyhow::Result;
use end_to_end::System;
use testkit::{
    PrivateBroker, PrivateMongod, Proxy, ServiceProcess, Subscriber, TestEnvironment, eventually,
};

const SOON: Duration = Duration::from_secs(20);

/// Maximum time until another replica leads after the leader's death.
const FAILOVER: Duration = Duration::from_secs(5);

/// Maximum time until frames flow again after an outage: servers are back, connections are retried.
const RECOVERY: Duration = Duration::from_secs(90);

/// Longer than an outage and the recovery from it take together.
const OUTAGE: Duration = Duration::from_mins(5);

/// Log level at which a broadcaster logs its samples.
const LOG: (&str, &str) = ("RUST_LOG", "info,broadcaster::sampler=debug");

async fn start(env: &TestEnvironment) -> Result<ServiceProcess> {
    env.broadcaster().env(LOG.0, LOG.1).start().await
}

async fn subscribe(broadcaster: &ServiceProcess) -> Result<Subscriber> {
    Subscriber::connect(&broadcaster.websocket_url("/api/chat")).await
}

fn logged(broadcaster: &ServiceProcess, message: &str) -> usize {
    let wanted = format!("\"message\":\"{message}\"");
    broadcaster.log_text().lines().filter(|line| line.contains(&wanted)).count()
}

/// Starts two broadcasters, the first of which is the leader and has its own URL of the broker.
async fn two(
    env: &TestEnvironment,
    url_of_first: &str,
) -> Result<(ServiceProcess, ServiceProcess)> {
    let first = env.broadcaster().env(LOG.0, LOG.1).env("RABBITMQ_URL", url_of_first);
    let first = first.start().await?;
    eventually("the first one samples", SOON, async || logged(&first, "sampled") > 0).await;
    let second = start(env).await?;
    Ok((first, second))
}

/// Waits until the second one is the leader; its subscriber hardly notices.
async fn takes_over(second: &ServiceProcess, subscriber: &mut Subscriber) -> Result<()> {
    // Frames from before may still be in flight.
    subscriber.next_text(FAILOVER).await?;
    eventually("the second one samples", FAILOVER, async || logged(second, "sampled") > 0).await;
    subscriber.next_text(FAILOVER).await?;
    Ok(())
}

/// Checks that there is one frame a second in all. A frame can be late, and the next one then comes soon after it.
async fn one_frame_a_second(subscriber: &mut Subscriber) -> Result<()> {
    // Frames that arrived before come at once.
    while subscriber.next_text(Duration::from_millis(50)).await.is_ok() {}
    subscriber.next_text(SOON).await?;
    let begun = Instant::now();
    for _ in 0..5 {
        subscriber.next_text(SOON).await?;
    }
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(3), "5 frames in {took:?}");
    Ok(())
}

/// Waits while the subscriber goes on reading, as clients do: one that answers no pings is closed.
async fn while_reading(
    subscriber: &mut Subscriber,
    waiting: impl Future<Output = ()>,
) -> Result<()> {
    let mut waiting = pin!(waiting);
    loop {
        tokio::select! {
            () = &mut waiting => return Ok(()),
            // Outages have no frames.
            frame = subscriber.next_text(OUTAGE) => {
                frame?;
            }
        }
    }
}

#[tokio::test]
async fn there_is_one_sample_for_each_frame_however_many_replicas_and_subscribers() -> Result<()> {
    let system = System::start().await?;
    system.create("alice", "bob", "hello").await?;
    let env = &system.env;
    let replicas =
        tokio::try_join!(start(env), start(env), start(env)).map(|(a, b, c)| [a, b, c])?;
    let mut subscribers = Vec::new();
    for replica in &replicas {
        for _ in 0..5 {
            subscribers.push(subscribe(replica).await?);
        }
    }
    let total = || replicas.iter().map(|replica| logged(replica, "sampled")).sum::<usize>();
    let observer = &mut subscribers[0];
    observer.next_text(SOON).await?;
    let before = total();
    for _ in 0..5 {
        observer.next_text(SOON).await?;
    }
    let samples = total() - before;
    // One may be logged and not arrived, on either side.
    assert!((4..=6).contains(&samples), "{samples} samples for 5 frames");
    one_frame_a_second(observer).await
}

#[tokio::test]
async fn when_the_leader_is_frozen_another_replica_takes_over() -> Result<()> {
    let system = System::start().await?;
    system.create("alice", "bob", "hello").await?;
    let (first, second) = two(&system.env, &system.env.rabbitmq_url()).await?;
    let mut subscriber = subscribe(&second).await?;
    let mut frozen_one = subscribe(&first).await?;
    frozen_one.next_text(SOON).await?;
    first.freeze()?;
    takes_over(&second, &mut subscriber).await?;
    first.thaw()?;
    // It believes to be the leader until it notices that its connection is closed; its frames reach no subscriber.
    one_frame_a_second(&mut subscriber).await?;
    frozen_one.next_text(RECOVERY).await?;
    one_frame_a_second(&mut frozen_one).await
}

#[tokio::test]
async fn when_the_leader_loses_the_broker_in_a_black_hole_another_replica_takes_over() -> Result<()>
{
    let system = System::start().await?;
    system.create("alice", "bob", "hello").await?;
    let (proxy, url) = Proxy::in_front_of(&system.env.rabbitmq_url()).await?;
    let (first, second) = two(&system.env, &url).await?;
    let mut subscriber = subscribe(&second).await?;
    let mut cut_off = subscribe(&first).await?;
    cut_off.next_text(SOON).await?;
    proxy.freeze();
    takes_over(&second, &mut subscriber).await?;
    one_frame_a_second(&mut subscriber).await?;
    proxy.strand();
    // The socket is still open, and the broadcaster reconnects around the black hole.
    cut_off.next_text(RECOVERY).await?;
    one_frame_a_second(&mut cut_off).await
}

#[tokio::test]
async fn a_leader_that_lost_the_broker_says_so_before_it_could_connect_again() -> Result<()> {
    let system = System::start().await?;
    system.create("alice", "bob", "hello").await?;
    let (proxy, url) = Proxy::in_front_of(&system.env.rabbitmq_url()).await?;
    // Connecting must not have failed yet when the wait below is over.
    let patient = format!("{url}?connection_timeout=60000");
    let (leader, _second) = two(&system.env, &patient).await?;
    proxy.freeze();
    let api = leader.api()?;
    eventually("the leader cannot publish", SOON, async || {
        let answer: serde_json::Value = api.get("/readyz").await.ok()?.json().ok()?;
        (answer["dependencies"]["rabbitmq_publish"] == "down").then_some(())
    })
    .await;
    Ok(())
}

#[tokio::test]
async fn a_leader_that_alone_lacks_the_database_lets_another_replica_lead() -> Result<()> {
    let system = System::start().await?;
    system.create("alice", "bob", "hello").await?;
    let env = &system.env;
    let (proxy, url) = Proxy::in_front_of(env.mongo_uri()).await?;
    let first = env.broadcaster().env(LOG.0, LOG.1).env("MONGO_URI", url).start().await?;
    eventually("the first one samples", SOON, async || logged(&first, "sampled") > 0).await;
    let second = start(env).await?;
    let mut subscriber = subscribe(&first).await?;
    subscriber.next_text(SOON).await?;
    proxy.refuse(true);
    proxy.cut().await;
    let taken_over =
        eventually("the second one samples", RECOVERY, async || logged(&second, "sampled") > 0);
    while_reading(&mut subscriber, taken_over).await?;
    // It stands for election only once it has the database again.
    one_frame_a_second(&mut subscriber).await
}

#[tokio::test]
async fn one_replica_leads_and_all_get_its_frames_after_the_brokers_objects_were_deleted()
-> Result<()> {
    let broker = PrivateBroker::start().await?;
    let env = TestEnvironment::builder().broker(&broker).build().await;
    let system = System::start_in(env).await?;
    system.create("alice", "bob", "hello").await?;
    let env = &system.env;
    let (first, second) = two(env, &env.rabbitmq_url()).await?;
    let (mut one, mut other) = tokio::try_join!(subscribe(&first), subscribe(&second))?;
    // The connection that held it stays.
    let vhost = ["--vhost", env.management().vhost()];
    let delete = ["delete_queue", "messages.broadcast.leader"];
    broker.rabbitmqctl(&[&vhost[..], &delete[..]].concat()).await?;
    one_frame_a_second(&mut one).await?;
    one_frame_a_second(&mut other).await?;
    env.management().delete_exchange("messages.broadcast").await?;
    one_frame_a_second(&mut one).await?;
    one_frame_a_second(&mut other).await
}

#[tokio::test]
async fn sockets_outlive_the_broker_and_the_database_and_frames_resume() -> Result<()> {
    let (mut broker, mut mongod) =
        tokio::try_join!(PrivateBroker::start(), PrivateMongod::start())?;
    let env = TestEnvironment::builder().broker(&broker).mongod(&mongod).build().await;
    let system = System::start_in(env).await?;
    system.create("alice", "bob", "hello").await?;
    let broadcaster = start(&system.env).await?;
    let mut subscriber = subscribe(&broadcaster).await?;
    subscriber.next_text(SOON).await?;

    while_reading(&mut subscriber, async {
        mongod.kill().unwrap();
        eventually("it cannot draw", SOON, async || {
            logged(&broadcaster, "cannot sample messages; retrying") > 0
        })
        .await;
        mongod.restart().await.unwrap();
        let drawing = async || logged(&broadcaster, "can sample messages again") > 0;
        eventually("it can again", RECOVERY, drawing).await;
    })
    .await?;
    subscriber.next_text(SOON).await?;

    while_reading(&mut subscriber, async {
        broker.kill().unwrap();
        let resigned = async || logged(&broadcaster, "lost leadership; stopped broadcasting") > 0;
        eventually("it samples no longer", SOON, resigned).await;
        broker.restart().await.unwrap();
        let elected = async || logged(&broadcaster, "elected leader") > 1;
        eventually("it is elected again", RECOVERY, elected).await;
    })
    .await?;
    // One that arrived before the broker died may not have been read yet.
    for _ in 0..3 {
        subscriber.next_text(RECOVERY).await?;
    }
    one_frame_a_second(&mut subscriber).await
}
