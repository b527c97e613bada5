//! Event streams: every change of a user's messages, on each transport, in order, resumed anywhere.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use contracts::{Change, ChangeKind, EventPosition, MAX_ENTRY_CHANGES, Message, MessageId};
use end_to_end::{System, open_store};
use mongodb::bson::{DateTime, Document, doc};
use serde_json::{Value, json};
use store::{LogAppender, PendingEntry, Store};
use testkit::{Api, EventSource, Proxy, ServiceProcess, Subscriber, TestEnvironment, eventually};
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(20);

/// A system with a broadcaster, and a gateway in front of it.
pub(crate) struct Streams {
    pub(crate) broadcaster: ServiceProcess,
    pub(crate) system: System,
}

impl Streams {
    pub(crate) async fn start() -> Result<Self> {
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

    /// Starts another broadcaster in place of this one, with these settings.
    pub(crate) async fn restart_broadcaster(&mut self, settings: &[(&str, &str)]) -> Result<()> {
        let address = self.broadcaster.address().to_owned();
        self.broadcaster.kill()?;
        let broadcaster = self.system.env.broadcaster().env("BROADCASTER_BIND", address);
        let broadcaster =
            settings.iter().fold(broadcaster, |it, (name, value)| it.env(name, *value));
        self.broadcaster = broadcaster.start().await?;
        Ok(())
    }

    /// Returns the URL of a stream of the broadcaster.
    pub(crate) fn events_url(&self, query: &str) -> String {
        url(&self.broadcaster, query)
    }

    async fn sse(&self, query: &str) -> Result<EventSource> {
        EventSource::connect(&url(&self.broadcaster, query)).await
    }
}

fn url(service: &ServiceProcess, query: &str) -> String {
    format!("{}/api/events?{query}", service.url())
}

pub(crate) async fn poll(api: &Api, query: &str) -> Result<Value> {
    let answer = api.get(&format!("/api/events?{query}")).await?;
    ensure!(answer.status == 200, "{} {}", answer.status, answer.text);
    answer.json()
}

/// Waits for `ready`, and returns its position.
pub(crate) async fn ready(stream: &mut EventSource, resumed: bool) -> Result<String> {
    let ready = stream.next(SOON).await?;
    ensure!(ready.name == "ready" && ready.data["resumed"] == resumed, "{ready:?}");
    ensure!(ready.data["position"] == ready.id.as_str(), "{ready:?}");
    Ok(ready.id)
}

pub(crate) fn event(kind: &str, version: u64, message: &Message) -> Value {
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

/// Appends deletions to the log, of which clients are told without reading any message. Returns the ids in their order.
async fn log_deletions(store: &Store, from: &str, count: usize) -> Result<Vec<MessageId>> {
    log_deletions_to(store, from, "bob", count).await
}

async fn log_deletions_to(
    store: &Store,
    from: &str,
    to: &str,
    count: usize,
) -> Result<Vec<MessageId>> {
    let mut appender = LogAppender::new(store.clone());
    let ids: Vec<MessageId> = (0..count).map(|_| MessageId::generate()).collect();
    for ids in ids.chunks(MAX_ENTRY_CHANGES) {
        let change = |id: &MessageId| -> Result<Change> {
            Ok(Change {
                kind: ChangeKind::Deleted,
                message_id: *id,
                version: 2,
                from_user_id: from.to_owned().try_into()?,
                to_user_id: to.to_owned().try_into()?,
            })
        };
        let changes = ids.iter().map(change).collect::<Result<_>>()?;
        appender.append(&mut PendingEntry::new(changes)).await?;
    }
    Ok(ids)
}

/// Reads events of deletions until `count` have come, and returns the ids.
async fn deletions(stream: &mut EventSource, count: usize) -> Result<Vec<MessageId>> {
    let mut ids = Vec::new();
    while ids.len() < count {
        ids.push(serde_json::from_value(stream.next_message(SOON).await?["message"]["id"].take())?);
    }
    Ok(ids)
}

async fn position_at_end(api: &Api) -> Result<String> {
    let page = poll(api, "user_id=nobody").await?;
    Ok(page["position"].as_str().context("no position")?.to_owned())
}

#[tokio::test]
async fn a_stream_catches_up_from_memory_and_from_the_log_without_a_hole() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = open_store(&env).await?;
    let epoch = store.ensure_log_epoch().await?;
    let start = EventPosition::start(epoch);
    // More than a replica has in memory, and before it was started.
    let mut of_alice = log_deletions(&store, "alice", 2_500).await?;
    let mut with_bob = of_alice.clone();
    for _ in 0..40 {
        of_alice.extend(log_deletions_to(&store, "alice", "dora", 1).await?);
        let next = log_deletions(&store, "alice", 1).await?;
        of_alice.extend(&next);
        with_bob.extend(&next);
    }
    let of_carol = log_deletions(&store, "carol", 70_000).await?;
    let broadcaster = env.broadcaster().start().await?;
    let api = broadcaster.api()?;
    eventually("it follows the log", SOON, async || position_at_end(&api).await.map(drop)).await;
    let more = log_deletions(&store, "alice", 2_500).await?;
    let everything = [of_alice.clone(), of_carol, more.clone()].concat();
    let all = [of_alice, more.clone()].concat();
    let mut stream =
        EventSource::connect(&url(&broadcaster, &format!("user_id=alice&after={start}"))).await?;
    ready(&mut stream, true).await?;
    assert_eq!(deletions(&mut stream, all.len()).await?, all);
    let last = log_deletions(&store, "alice", 1).await?;
    assert_eq!(deletions(&mut stream, 1).await?, last);
    let log_reads = api.get("/metrics").await?.text;
    let log_reads = log_reads.lines().find(|it| it.starts_with("messages_event_log_reads_total"));
    assert!(log_reads.is_some_and(|it| !it.ends_with(" 0")), "{log_reads:?}");
    // However much that is, there is no quicker way to everybody's changes.
    let mut everybody =
        EventSource::connect(&url(&broadcaster, &format!("all=true&after={start}"))).await?;
    ready(&mut everybody, true).await?;
    assert_eq!(deletions(&mut everybody, everything.len()).await?, everything);
    assert_eq!(deletions(&mut everybody, 1).await?, last);

    // In pages, of a conversation among others.
    let (mut position, mut ids) = (start.to_string(), Vec::<MessageId>::new());
    loop {
        let page = poll(&api, &format!("user_id=alice&with=bob&after={position}")).await?;
        position = page["position"].as_str().context("no position")?.to_owned();
        let events = page["events"].as_array().context("no events")?;
        if events.is_empty() {
            break;
        }
        for event in events {
            ids.push(serde_json::from_value(event["message"]["id"].clone())?);
        }
    }
    assert_eq!(ids, [with_bob, more, last].concat());
    // A conversation without anything in it is gone through, too.
    let page = poll(&api, &format!("user_id=alice&with=nobody&after={start}")).await?;
    assert_eq!(page["events"], json!([]));
    let position: EventPosition = page["position"].as_str().context("no position")?.parse()?;
    assert_eq!(Some(position), store.log_end().await?);
    Ok(())
}

#[tokio::test]
async fn a_stream_that_cannot_resume_is_told_why_and_goes_on() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = open_store(&env).await?;
    let epoch = store.ensure_log_epoch().await?;
    log_deletions(&store, "alice", 20_000).await?;
    let entry = store.log_entry(3).await?.context("no entry")?;
    let broadcaster = env.broadcaster().start().await?;
    let api = broadcaster.api()?;
    eventually("it follows the log", SOON, async || position_at_end(&api).await.map(drop)).await;
    let in_another_log = EventPosition::behind(Uuid::new_v4(), 3, entry.append);
    let of_another_append = EventPosition::behind(epoch, 3, Uuid::new_v4());
    let ahead = EventPosition::behind(epoch, 1_000, entry.append);
    let far_ahead = EventPosition::behind(epoch, u64::MAX, entry.append);
    let good = EventPosition::within(epoch, 3, entry.append, 7);
    let cases = [
        (in_another_log, "other-epoch"),
        (of_another_append, "other-epoch"),
        (ahead, "other-epoch"),
        (far_ahead, "other-epoch"),
        (good, "too-many"),
    ];
    let reset = async |position: EventPosition, reason: &str| -> Result<()> {
        let query = format!("user_id=alice&after={position}");
        let mut stream = EventSource::connect(&url(&broadcaster, &query)).await?;
        // Who is cut off here must be told again.
        ensure!(ready(&mut stream, false).await? == position.to_string(), "{position}");
        let reset = stream.next(SOON).await?;
        ensure!(reset.name == "reset" && reset.data["reason"] == reason, "{reset:?}");
        ensure!(reset.data["position"] == reset.id.as_str(), "{reset:?}");
        let last = log_deletions(&store, "alice", 1).await?;
        ensure!(deletions(&mut stream, 1).await? == last, "{position}");
        let path = format!("/api/events?{query}");
        let mut socket = Subscriber::connect(&broadcaster.websocket_url(&path)).await?;
        let _ready: Value = socket.next_json(SOON).await?;
        let frame: Value = socket.next_json(SOON).await?;
        ensure!(frame["type"] == "reset" && frame["reason"] == reason, "{frame}");
        if reason != "too-many" {
            let page = poll(&api, &query).await?;
            ensure!(page["events"][0]["reason"] == reason, "{page}");
        }
        Ok(())
    };
    for (position, reason) in cases {
        reset(position, reason).await.with_context(|| format!("{position:?}"))?;
    }
    // A page at a time, nothing is too much; nor is one conversation that has nothing.
    let page = poll(&api, &format!("user_id=alice&after={good}")).await?;
    assert_eq!(page["events"].as_array().map(Vec::len), Some(100), "{page}");
    let query = format!("user_id=alice&with=nobody&after={good}");
    ready(&mut EventSource::connect(&url(&broadcaster, &query)).await?, true).await?;

    let client = mongodb::Client::with_uri_str(env.mongo_uri()).await?;
    let events = client.database(env.database()).collection::<Document>("events");
    let old = DateTime::from_millis(0);
    events.update_many(doc! { "_id": { "$lte": 10 } }, doc! { "$set": { "at": old } }).await?;
    assert_eq!(store.trim_log(Duration::from_hours(1)).await?, 10);
    // What is in memory can still be resumed.
    let restarted = env.broadcaster().on_own_port()?.start().await?;
    let api = restarted.api()?;
    eventually("it follows the log", SOON, async || position_at_end(&api).await.map(drop)).await;
    for position in [good, EventPosition::start(epoch)] {
        let page = poll(&api, &format!("user_id=alice&after={position}")).await?;
        assert_eq!(page["events"][0]["reason"], "position-expired", "{page}");
    }
    Ok(())
}

#[tokio::test]
async fn a_restored_backup_resets_open_streams() -> Result<()> {
    let streams = Streams::start().await?;
    let system = &streams.system;
    let store = open_store(&system.env).await?;
    let mut stream = streams.sse("user_id=alice").await?;
    ready(&mut stream, false).await?;
    let kept = system.create("alice", "bob", "in the backup").await?;
    assert_eq!(stream.next_message(SOON).await?, event("created", 1, &kept));
    let lost = system.create("alice", "bob", "not in it").await?;
    assert_eq!(stream.next_message(SOON).await?, event("created", 1, &lost));
    let before = stream.last_event_id().to_owned();
    let client = mongodb::Client::with_uri_str(system.env.mongo_uri()).await?;
    let events = client.database(system.env.database()).collection::<Document>("events");
    for renew in [false, true] {
        // As a restored backup leaves the log. Without its own epoch, it is noticed all the same.
        system.worker.terminate(SOON).await?;
        events.delete_many(doc! { "_id": { "$gte": 2 } }).await?;
        if renew {
            store.renew_log_epoch().await?;
        }
        let _worker = system.env.storage_worker().on_own_port()?.start().await?;
        let reset = stream.next(SOON).await?;
        assert_eq!((reset.name.as_str(), &reset.data["reason"]), ("reset", &json!("other-epoch")));
        let mut resumed = streams.sse(&format!("user_id=alice&after={before}")).await?;
        ready(&mut resumed, false).await?;
        assert_eq!(resumed.next(SOON).await?.data["reason"], "other-epoch");
        let next = system.create("alice", "bob", "afterwards").await?;
        assert_eq!(stream.next_message(SOON).await?, event("created", 1, &next));
    }
    Ok(())
}

#[tokio::test]
async fn behind_a_hole_in_the_log_streams_start_over_instead_of_waiting() -> Result<()> {
    let streams = Streams::start().await?;
    let env = &streams.system.env;
    let store = open_store(env).await?;
    let mut stream = streams.sse("user_id=alice").await?;
    ready(&mut stream, false).await?;
    let first = log_deletions(&store, "alice", 1).await?;
    assert_eq!(deletions(&mut stream, 1).await?, first);
    // A worker that ran while a backup was restored goes on with its own numbers.
    let client = mongodb::Client::with_uri_str(env.mongo_uri()).await?;
    let events = client.database(env.database()).collection::<Document>("events");
    let mut entry = events.find_one(doc! {}).await?.context("no entry")?;
    entry.insert("_id", 3_i64);
    events.insert_one(entry).await?;
    let reset = stream.next(SOON).await?;
    assert_eq!((reset.name.as_str(), &reset.data["reason"]), ("reset", &json!("other-epoch")));
    let next = log_deletions(&store, "alice", 1).await?;
    assert_eq!(deletions(&mut stream, 1).await?, next);
    Ok(())
}

#[tokio::test]
async fn without_hints_events_come_from_the_log() -> Result<()> {
    let env = TestEnvironment::new().await;
    let (proxy, through) = Proxy::in_front_of(&env.rabbitmq_url()).await?;
    let broadcaster = env.broadcaster().env("RABBITMQ_URL", through).start().await?;
    let system = System::start_in(env).await?;
    let api = broadcaster.api()?;
    eventually("it follows the log", SOON, async || position_at_end(&api).await.map(drop)).await;
    let mut stream = EventSource::connect(&url(&broadcaster, "user_id=alice")).await?;
    ready(&mut stream, false).await?;
    proxy.refuse(true);
    proxy.cut().await;
    let message = system.create("alice", "bob", "unannounced").await?;
    assert_eq!(stream.next_message(SOON).await?, event("created", 1, &message));
    Ok(())
}

#[tokio::test]
async fn a_client_that_reads_nothing_misses_nothing_and_delays_nobody() -> Result<()> {
    let streams = Streams::start().await?;
    let system = &streams.system;
    let (mut slow, mut live) =
        (streams.sse("user_id=alice").await?, streams.sse("user_id=bob").await?);
    ready(&mut live, false).await?;
    let mut created = Vec::new();
    // Far more than fits between both, within the time in which a client must take something.
    let content = "𝄞".repeat(4_000);
    for _ in 0..100 {
        let message = system.create("alice", "bob", &content).await?;
        assert_eq!(live.next_message(SOON).await?, event("created", 1, &message));
        created.push(message);
    }
    ready(&mut slow, false).await?;
    for message in &created {
        let mut next = slow.next_message(SOON).await;
        if next.is_err() {
            // Whoever takes nothing for ten seconds is cut off, and resumes.
            let id = slow.last_event_id().to_owned();
            slow = streams.sse(&format!("user_id=alice&after={id}")).await?;
            ready(&mut slow, true).await?;
            next = slow.next_message(SOON).await;
        }
        assert_eq!(next?, event("created", 1, message));
    }
    Ok(())
}
