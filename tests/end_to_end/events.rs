//! Event streams: every change of a user's messages, on each transport, in order, resumed anywhere.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use contracts::Message;
use end_to_end::System;
use serde_json::{Value, json};
use testkit::{Api, EventSource, ServiceProcess, Subscriber, TestEnvironment, eventually};

const SOON: Duration = Duration::from_secs(20);

/// A system with a broadcaster, and a gateway in front of it.
struct Streams {
    broadcaster: ServiceProcess,
    system: System,
}

impl Streams {
    async fn start() -> Result<Self> {
        Self::start_in(TestEnvironment::new().await).await
    }

    async fn start_in(env: TestEnvironment) -> Result<Self> {
        let broadcaster = env.broadcaster().start().await?;
        let worker = env.storage_worker().start().await?;
        let gateway = env.gateway().env("BROADCASTER_URL", broadcaster.url()).start().await?;
        let api = gateway.api()?;
        let system = System { worker, gateway, api, env };
        let streams = Self { broadcaster, system };
        eventually("the broadcaster follows the log", SOON, async || {
            poll(&streams.broadcaster.api()?, "user_id=nobody").await.map(drop)
        })
        .await;
        Ok(streams)
    }

    async fn sse(&self, query: &str) -> Result<EventSource> {
        EventSource::connect(&url(&self.broadcaster, query)).await
    }
}

fn url(service: &ServiceProcess, query: &str) -> String {
    format!("{}/api/events?{query}", service.url())
}

async fn poll(api: &Api, query: &str) -> Result<Value> {
    let answer = api.get(&format!("/api/events?{query}")).await?;
    ensure!(answer.status == 200, "{} {}", answer.status, answer.text);
    answer.json()
}

/// Waits for `ready`, and returns its position.
async fn ready(stream: &mut EventSource, resumed: bool) -> Result<String> {
    let ready = stream.next(SOON).await?;
    ensure!(ready.name == "ready" && ready.data["resumed"] == resumed, "{ready:?}");
    ensure!(ready.data["position"] == ready.id.as_str(), "{ready:?}");
    Ok(ready.id)
}

fn event(kind: &str, version: u64, message: &Message) -> Value {
    json!({ "type": format!("message.{kind}"), "version": version, "message": message })
}

fn deleted(version: u64, message: &Message) -> Value {
    let Message { id, from_user_id, to_user_id, .. } = message;
    let left = json!({ "id": id, "from_user_id": from_user_id, "to_user_id": to_user_id });
    json!({ "type": "message.deleted", "version": version, "message": left })
}

#[tokio::test]
async fn each_change_arrives_on_every_transport_directly_and_through_the_gateway() -> Result<()> {
    let streams = Streams::start().await?;
    let Streams { system, broadcaster } = &streams;
    let mut sse = Vec::new();
    let mut websockets = Vec::new();
    let mut positions = Vec::new();
    for service in [broadcaster, &system.gateway] {
        for user in ["alice", "bob&with=alice"] {
            let query = format!("user_id={user}");
            let mut stream = EventSource::connect(&url(service, &query)).await?;
            ready(&mut stream, false).await?;
            sse.push(stream);
            let path = format!("/api/events?{query}");
            let mut socket = Subscriber::connect(&service.websocket_url(&path)).await?;
            let ready: Value = socket.next_json(SOON).await?;
            assert_eq!((&ready["type"], &ready["resumed"]), (&json!("ready"), &json!(false)));
            websockets.push(socket);
            positions.push((service, query.clone(), poll(&service.api()?, &query).await?));
        }
    }
    let message = system.create("alice", "bob", "first").await?;
    let mut expected = vec![event("created", 1, &message)];
    for stream in &mut sse {
        assert_eq!(stream.next_message(SOON).await?, expected[0]);
    }
    system.create("carol", "dan", "of others").await?;
    let edited = system.edit(&message, "second").await?;
    for stream in &mut sse {
        assert_eq!(stream.next_message(SOON).await?, event("edited", 2, &edited));
    }
    assert_eq!(system.delete(&message).await?, 204);
    for stream in &mut sse {
        assert_eq!(stream.next_message(SOON).await?, deleted(3, &message));
    }
    expected.extend([event("edited", 2, &edited), deleted(3, &message)]);
    for socket in &mut websockets {
        for expected in &expected {
            let mut event: Value = socket.next_json(SOON).await?;
            let fields = event.as_object_mut().context("no object")?;
            assert!(fields.remove("position").is_some_and(|it| it.is_string()));
            assert_eq!(event, *expected);
        }
    }
    // Whoever asks later is told of the deletion only.
    for (service, query, before) in positions {
        let after = before["position"].as_str().context("no position")?;
        let page = poll(&service.api()?, &format!("{query}&after={after}")).await?;
        let events = page["events"].as_array().context("no events")?;
        assert_eq!(events.len(), 1, "{page}");
        assert_eq!(events[0]["type"], "message.deleted");
        let at_end = page["position"].as_str().context("no position")?;
        let page = poll(&service.api()?, &format!("{query}&after={at_end}")).await?;
        assert_eq!(page, json!({ "events": [], "position": at_end }));
    }
    Ok(())
}

#[tokio::test]
async fn a_stream_resumes_where_it_was_on_any_replica() -> Result<()> {
    let streams = Streams::start().await?;
    let system = &streams.system;
    let mut stream = streams.sse("user_id=bob").await?;
    ready(&mut stream, false).await?;
    let first = system.create("alice", "bob", "1").await?;
    assert_eq!(stream.next_message(SOON).await?, event("created", 1, &first));
    streams.broadcaster.kill()?;
    stream.ended(SOON).await?;
    let mut missed = Vec::new();
    for content in ["2", "3", "4"] {
        missed.push(system.create("alice", "bob", content).await?);
    }
    let other = system.env.broadcaster().on_own_port()?.start().await?;
    let id = stream.last_event_id().to_owned();
    let headers = [("last-event-id", id.as_str())];
    let mut stream = eventually("it has read the log", SOON, async || {
        let mut stream = EventSource::connect_with(&url(&other, "user_id=bob"), &headers).await?;
        ready(&mut stream, true).await?;
        anyhow::Ok(stream)
    })
    .await;
    for message in &missed {
        assert_eq!(stream.next_message(SOON).await?, event("created", 1, message));
    }
    let last = system.create("alice", "bob", "5").await?;
    assert_eq!(stream.next_message(SOON).await?, event("created", 1, &last));
    Ok(())
}
