//! Broadcasts, as WebSocket subscribers see them.

use std::{collections::HashSet, time::Duration};

use anyhow::Result;
use contracts::Message;
use end_to_end::System;
use futures_util::future::try_join_all;
use testkit::{ServiceProcess, Subscriber, TestEnvironment, eventually};

const SOON: Duration = Duration::from_secs(10);

/// Maximum time until another replica leads after the leader's death.
const FAILOVER: Duration = Duration::from_secs(5);

async fn subscribe(broadcaster: &ServiceProcess) -> Result<Subscriber> {
    Subscriber::connect(&broadcaster.websocket_url("/api/chat")).await
}

fn is_leader(broadcaster: &ServiceProcess) -> bool {
    broadcaster.log_text().contains("\"message\":\"elected leader\"")
}

#[tokio::test]
async fn a_subscriber_gets_a_stored_message_each_second() -> Result<()> {
    let system = System::start().await?;
    let broadcaster = system.env.broadcaster().start().await?;
    let mut sent = HashSet::new();
    for number in 0..5 {
        sent.insert(system.create("alice", "bob", &format!("number {number}")).await?.id);
    }
    let mut subscriber = subscribe(&broadcaster).await?;
    subscriber.next_json::<Message>(SOON).await?;
    let begun = std::time::Instant::now();
    for _ in 0..4 {
        let message: Message = subscriber.next_json(SOON).await?;
        assert_eq!(system.read(&message).await?, Some(message.clone()));
        assert!(sent.contains(&message.id));
    }
    let took = begun.elapsed();
    assert!((Duration::from_secs(3)..Duration::from_secs(7)).contains(&took), "{took:?}");
    Ok(())
}

#[tokio::test]
async fn every_message_is_sampled_sooner_or_later() -> Result<()> {
    let system = System::start().await?;
    let mut unseen = HashSet::new();
    for number in 0..5 {
        unseen.insert(system.create("alice", "bob", &format!("number {number}")).await?.id);
    }
    let broadcaster = system.env.broadcaster().env("BROADCAST_INTERVAL_MS", 50).start().await?;
    let mut subscriber = subscribe(&broadcaster).await?;
    // The chance that 150 samples miss one of five messages is 1 in 10^13.
    for _ in 0..150 {
        unseen.remove(&subscriber.next_json::<Message>(SOON).await?.id);
    }
    assert!(unseen.is_empty(), "never sampled: {unseen:?}");
    Ok(())
}

#[tokio::test]
async fn a_message_deleted_after_the_sample_for_its_frame_is_not_in_it() -> Result<()> {
    let system = System::start().await?;
    // More than a sample holds, so that one serves several frames.
    let creating = (0..60)
        .map(async |number| system.create("alice", "bob", &format!("number {number}")).await);
    let mut messages = try_join_all(creating).await?;
    let broadcaster = system.env.broadcaster().env("BROADCAST_INTERVAL_MS", 500).start().await?;
    let mut subscriber = subscribe(&broadcaster).await?;
    for _ in 0..2 {
        subscriber.next_json::<Message>(SOON).await?;
    }
    let kept = messages.pop();
    try_join_all(messages.iter().map(|message| system.delete(message))).await?;
    // Those that were sent before are of messages that were stored then.
    eventually("frames are of the message that is left", SOON, async || {
        let frame = subscriber.next_json::<Message>(SOON).await?;
        anyhow::ensure!(Some(&frame) == kept.as_ref(), "{frame:?}");
        Ok(())
    })
    .await;
    for _ in 0..4 {
        assert_eq!(Some(subscriber.next_json::<Message>(SOON).await?), kept);
    }
    Ok(())
}

#[tokio::test]
async fn every_subscriber_of_every_replica_gets_the_same_frame() -> Result<()> {
    let system = System::start().await?;
    for number in 0..50 {
        system.create("alice", "bob", &format!("number {number}")).await?;
    }
    let (first, second) =
        tokio::try_join!(system.env.broadcaster().start(), system.env.broadcaster().start())?;
    let mut subscribers =
        [subscribe(&first).await?, subscribe(&first).await?, subscribe(&second).await?];
    // They may have joined on both sides of a tick, so one may be a frame behind.
    let mut seen: Vec<Vec<String>> = vec![Vec::new(); subscribers.len()];
    for _ in 0..6 {
        for (subscriber, seen) in subscribers.iter_mut().zip(&mut seen) {
            seen.push(subscriber.next_text(SOON).await?);
        }
    }
    for other in &seen[1..] {
        let in_step = (0..2).any(|lag| {
            seen[0].iter().skip(lag).zip(other).all(|(one, another)| one == another)
                || other.iter().skip(lag).zip(&seen[0]).all(|(one, another)| one == another)
        });
        assert!(in_step, "{:?} is not {other:?}", seen[0]);
    }
    Ok(())
}

#[tokio::test]
async fn when_the_leader_is_killed_another_replica_takes_over() -> Result<()> {
    let system = System::start().await?;
    system.create("alice", "bob", "hello").await?;
    let first = system.env.broadcaster().start().await?;
    eventually("the first one leads", SOON, async || is_leader(&first)).await;
    let second = system.env.broadcaster().start().await?;
    let mut subscriber = subscribe(&second).await?;
    subscriber.next_text(SOON).await?;
    assert!(!is_leader(&second));
    first.kill()?;
    // What it published before may still be in flight.
    subscriber.next_text(FAILOVER).await?;
    eventually("the second one leads", FAILOVER, async || is_leader(&second)).await;
    subscriber.next_text(FAILOVER).await?;
    Ok(())
}

#[tokio::test]
async fn an_empty_database_sends_no_frame_and_keeps_the_socket() -> Result<()> {
    let system = System::start().await?;
    let broadcaster = system.env.broadcaster().env("BROADCAST_INTERVAL_MS", 100).start().await?;
    let mut subscriber = subscribe(&broadcaster).await?;
    eventually("it leads", SOON, async || is_leader(&broadcaster)).await;
    assert!(subscriber.next_text(Duration::from_secs(2)).await.is_err());
    let message = system.create("alice", "bob", "at last").await?;
    assert_eq!(subscriber.next_json::<Message>(SOON).await?, message);
    Ok(())
}

#[tokio::test]
async fn a_deleted_message_is_not_sampled() -> Result<()> {
    let system = System::start().await?;
    let kept = system.create("alice", "bob", "kept").await?;
    for number in 0..30 {
        let message = system.create("alice", "bob", &format!("deleted {number}")).await?;
        system.delete(&message).await?;
    }
    let broadcaster = system.env.broadcaster().env("BROADCAST_INTERVAL_MS", 50).start().await?;
    let mut subscriber = subscribe(&broadcaster).await?;
    for _ in 0..20 {
        assert_eq!(subscriber.next_json::<Message>(SOON).await?, kept);
    }
    Ok(())
}

#[tokio::test]
async fn the_old_url_on_the_gateway_still_works() -> Result<()> {
    let env = TestEnvironment::new().await;
    let broadcaster = env.broadcaster().start().await?;
    let worker = env.storage_worker().start().await?;
    let gateway = env.gateway().env("BROADCASTER_URL", broadcaster.url()).start().await?;
    end_to_end::created(&gateway.api()?, "alice", "bob", "hello").await?;
    let mut subscriber = Subscriber::connect(&gateway.websocket_url("/api/chat")).await?;
    let message: Message = subscriber.next_json(SOON).await?;
    assert_eq!(message.content.as_str(), "hello");
    let answer = gateway.api()?.get("/api/chat").await?;
    assert_eq!((answer.status, answer.header("upgrade")), (426, Some("websocket")));
    assert_eq!(answer.header("location"), None);
    drop(worker);
    Ok(())
}

#[tokio::test]
async fn a_broadcaster_that_stops_says_goodbye() -> Result<()> {
    let env = TestEnvironment::new().await;
    let broadcaster = env.broadcaster().env("DRAIN_DELAY_MS", 0).start().await?;
    let mut subscriber = subscribe(&broadcaster).await?;
    let (closed, status) = tokio::join!(subscriber.closed(SOON), broadcaster.terminate(SOON));
    assert!(status?.success());
    assert_eq!(closed?.map(|frame| u16::from(frame.code)), Some(1001));
    Ok(())
}
