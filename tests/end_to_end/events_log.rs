//! The log of changes: each write leaves its change there, whatever happens to the worker in between.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context, Result, ensure};
use contracts::{
    Change, ChangeKind, Command, Failure, Hint, LogEntry, Message, MessageId, Version,
};
use end_to_end::{
    Load, System, at_millis, create_command, created, delete_command, draft, edit_command, inject,
    open_store,
};
use mongodb::{
    Client, Collection,
    bson::{self, Bson, DateTime, Document, doc},
};
use reqwest::Method;
use serde_json::json;
use store::{AttemptId, CreateCommand, RecordedOutcome, Store};
use testkit::{Proxy, ServiceBuilder, TestEnvironment, eventually};
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(20);

/// A sender whose changes the faulty worker keeps out of the log.
const UNLOGGED: &str = "unlogged";

/// A worker that keeps some changes out of the log.
fn faulty_worker(env: &TestEnvironment) -> ServiceBuilder {
    env.storage_worker()
        .program(env!("CARGO_BIN_EXE_faulty-worker"))
        .env("RUST_LOG", "info,storage_worker=debug")
}

/// Reads the whole log, which has no hole.
async fn entries(store: &Store) -> Result<Vec<LogEntry>> {
    let entries = store.log_from(0, u16::MAX).await?;
    let numbers: Vec<u64> = entries.iter().map(|entry| entry.seq).collect();
    ensure!(numbers == (1..=entries.len() as u64).collect::<Vec<_>>(), "{numbers:?}");
    Ok(entries)
}

async fn changes(store: &Store) -> Result<Vec<Change>> {
    Ok(entries(store).await?.into_iter().flat_map(|entry| entry.changes).collect())
}

/// Waits until the worker has acked all that was published before.
async fn until_acked(env: &TestEnvironment) {
    eventually("everything is acked", SOON, async || {
        let depth = env.management().queue_depth("messages.commands").await?;
        ensure!(depth == 0, "{depth} deliveries are left");
        Ok(())
    })
    .await;
}

fn change(kind: ChangeKind, message_id: MessageId, version: Version, from: &str) -> Result<Change> {
    Ok(Change {
        kind,
        message_id,
        version,
        from_user_id: from.to_owned().try_into()?,
        to_user_id: "bob".to_owned().try_into()?,
    })
}

/// The changes of a message from `from` to bob that is created, edited and deleted.
fn three_changes(id: MessageId, from: &str) -> Result<[Change; 3]> {
    Ok([
        change(ChangeKind::Created, id, 1, from)?,
        change(ChangeKind::Edited, id, 2, from)?,
        change(ChangeKind::Deleted, id, 3, from)?,
    ])
}

fn collection(client: &Client, env: &TestEnvironment, name: &str) -> Collection<Document> {
    client.database(env.database()).collection(name)
}

fn bson_id(id: MessageId) -> Bson {
    bson::Uuid::from_bytes(Uuid::from(id).into_bytes()).into()
}

#[tokio::test]
async fn each_write_leaves_its_change_in_order_and_what_fails_leaves_none() -> Result<()> {
    for env in
        [TestEnvironment::new().await, TestEnvironment::builder().standalone_mongod().build().await]
    {
        let system = System::start_in(env).await?;
        let message = system.create("alice", "bob", "first").await?;
        let path = format!("/api/messages/{}", message.id);
        let stale = system.api.request(Method::PUT, &path).header("if-match", "\"7\"");
        let stale = system.api.send(stale.json(&json!({ "content": "stale" }))).await?;
        assert_eq!(stale.status, 412, "{}", stale.text);
        system.edit(&message, "second").await?;
        assert_eq!(system.delete(&message).await?, 204);
        assert_eq!(system.delete(&message).await?, 404);
        until_acked(&system.env).await;
        let store = open_store(&system.env).await?;
        assert_eq!(changes(&store).await?, three_changes(message.id, "alice")?);
    }
    Ok(())
}

#[tokio::test]
async fn commands_that_are_delivered_again_leave_their_changes_again() -> Result<()> {
    let env = TestEnvironment::new().await;
    let worker = env.storage_worker().start().await?;
    let create = create_command("alice", "bob", "first")?;
    let id = create.message_id();
    let edit = edit_command(id, "second", at_millis(create.issued_at, 1)?, None)?;
    let late = edit_command(id, "late", create.issued_at, None)?;
    let delete = delete_command(id, None);
    let delivery = serde_json::to_vec(&[&create, &edit, &late, &delete])?;
    for _ in 0..2 {
        inject(&env, &delivery).await?;
        until_acked(&env).await;
    }
    let twice = [three_changes(id, "alice")?, three_changes(id, "alice")?].concat();
    assert_eq!(changes(&open_store(&env).await?).await?, twice);
    drop(worker);
    Ok(())
}

#[tokio::test]
async fn a_worker_that_is_killed_between_write_and_append_loses_no_change() -> Result<()> {
    let env = TestEnvironment::new().await;
    let gateway = env.gateway().start().await?;
    let api = gateway.api()?;
    let store = open_store(&env).await?;
    let mut worker = faulty_worker(&env).start().await?;
    // Responses wait neither for the log, nor for the ack, which does.
    let message = created(&api, UNLOGGED, "bob", "first").await?;
    let path = format!("/api/messages/{}", message.id);
    assert_eq!(api.put(&path, &json!({ "content": "second" })).await?.status, 200);
    assert_eq!(api.delete(&path).await?.status, 204);
    for _ in 0..2 {
        assert_eq!(changes(&store).await?, []);
        worker.kill()?;
        eventually("the deliveries are back, not acked", SOON, async || {
            let queue = env.management().queue("messages.commands").await?;
            ensure!(queue.messages_ready == 3, "{queue:?}");
            Ok(())
        })
        .await;
        worker = faulty_worker(&env).start().await?;
        let applied = "delivery group applied";
        eventually("they are applied again", SOON, async || worker.log_text().contains(applied))
            .await;
    }
    worker.kill()?;
    let worker = env.storage_worker().start().await?;
    until_acked(&env).await;
    assert_eq!(changes(&store).await?, three_changes(message.id, UNLOGGED)?);
    assert_eq!(env.management().queue_depth("messages.dead").await?, 0);
    drop(worker);
    Ok(())
}

/// Stores the message of a create as a worker does that dies before its append.
async fn store_only(store: &Store, command: &Command, from: &str) -> Result<()> {
    let create = CreateCommand {
        command_id: command.id,
        message_id: command.message_id(),
        from_user_id: from.to_owned().try_into()?,
        to_user_id: "bob".to_owned().try_into()?,
        content: "stored".to_owned().try_into()?,
        publish_timestamp: command.issued_at,
    };
    store.create(&create).await.map(drop).map_err(Into::into)
}

#[tokio::test]
async fn a_dead_letter_whose_command_took_effect_leaves_its_change() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = open_store(&env).await?;
    env.storage_worker().start().await?.terminate(SOON).await?;
    let mut commands = ["expired", "killer", "recorded", "damaged", "never applied"]
        .map(|from| create_command(from, "bob", "stored"))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    for number in [0, 4] {
        commands[number].issued_at = at_millis(commands[number].issued_at, -7 * 86_400_000)?;
    }
    for (command, from) in commands.iter().zip(["expired", "killer", "recorded", "damaged"]) {
        store_only(&store, command, from).await?;
    }
    for _ in 0..2 {
        store.record_attempt(commands[1].id, AttemptId::generate()).await?;
    }
    let dead = RecordedOutcome::Failed(Failure::DeadLettered);
    store.record_outcomes(&[(commands[2].id, commands[2].message_id(), dead)]).await?;
    let client = Client::with_uri_str(env.mongo_uri()).await?;
    let filter = doc! { "_id": bson_id(commands[3].message_id()) };
    let damage = doc! { "$set": { "content": 7 } };
    collection(&client, &env, "messages").update_one(filter, damage).await?;

    inject(&env, &serde_json::to_vec(&commands)?).await?;
    // Put back three times, it counts as redelivered so often that delivery attempts are counted.
    for _ in 0..3 {
        env.management().peek("messages.commands", 1).await?;
    }
    let worker = env.storage_worker().start().await?;
    until_acked(&env).await;
    // The one that is recorded is dead-lettered already.
    assert_eq!(env.management().queue_depth("messages.dead").await?, 4);
    let mut logged = changes(&store).await?;
    logged.sort_by_key(|change| change.from_user_id.as_str().to_owned());
    let mut expected = Vec::new();
    for (number, from) in [(3, "damaged"), (0, "expired"), (1, "killer"), (2, "recorded")] {
        expected.push(change(ChangeKind::Created, commands[number].message_id(), 1, from)?);
    }
    assert_eq!(logged, expected);
    drop(worker);
    Ok(())
}

/// Checks that the log has the create of each message, and tells how often.
async fn count_creates(store: &Store, messages: &[Message]) -> Result<HashMap<MessageId, usize>> {
    let mut creates: HashMap<MessageId, usize> = HashMap::new();
    for change in changes(store).await? {
        assert_eq!((change.kind, change.version), (ChangeKind::Created, 1));
        *creates.entry(change.message_id).or_default() += 1;
    }
    for message in messages {
        ensure!(creates.contains_key(&message.id), "{message:?} is not in the log");
    }
    Ok(creates)
}

#[tokio::test]
async fn workers_that_are_stopped_under_load_leave_no_write_out_of_the_log() -> Result<()> {
    let system = System::start().await?;
    let second = system.env.storage_worker().start().await?;
    let load = Load::start(&system.gateway.url(), 16)?;
    for worker in [&second, &system.worker] {
        let so_far = load.accepted();
        eventually("writes are accepted", SOON, async || load.accepted() > so_far + 200).await;
        assert!(worker.terminate(SOON).await?.success());
    }
    let store = open_store(&system.env).await?;
    // What waits in the queue is not written yet, and what is written is in the log, once.
    let waiting = system.env.management().queue_depth("messages.commands").await?;
    let client = Client::with_uri_str(system.env.mongo_uri()).await?;
    let stored = collection(&client, &system.env, "messages").count_documents(doc! {}).await?;
    let creates = count_creates(&store, &[]).await?;
    assert_eq!(creates.len() as u64, stored, "{waiting} deliveries wait");
    assert!(creates.values().all(|times| *times == 1), "{creates:?}");

    let worker = system.env.storage_worker().start().await?;
    let report = load.stop().await;
    until_acked(&system.env).await;
    assert_eq!(report.failures, Vec::<String>::new());
    count_creates(&store, &report.accepted).await?;
    drop(worker);
    Ok(())
}

#[tokio::test]
async fn workers_that_compete_while_one_loses_mongodb_leave_no_hole_and_no_change_out() -> Result<()>
{
    let env = TestEnvironment::new().await;
    let gateway = env.gateway().start().await?;
    let (proxy, url) = Proxy::in_front_of(env.mongo_uri()).await?;
    let (cut_off, other) = tokio::try_join!(
        env.storage_worker().env("MONGO_URI", &url).start(),
        env.storage_worker().start()
    )?;
    let load = Load::start(&gateway.url(), 16)?;
    let metrics = cut_off.api()?;
    let retries = async || {
        let text = metrics.get("/metrics").await?.text;
        let sample =
            text.lines().find_map(|line| line.strip_prefix("messages_store_retries_total "));
        sample.context("no such metric")?.parse::<u64>().map_err(anyhow::Error::from)
    };
    for _ in 0..4 {
        let (accepted, retries_before) = (load.accepted(), retries().await?);
        eventually("writes are accepted", SOON, async || load.accepted() > accepted + 50).await;
        // The driver would repeat a lost write by itself.
        proxy.refuse(true);
        proxy.cut().await;
        eventually("the worker notices", SOON, async || {
            ensure!(retries().await? > retries_before, "it has not");
            Ok(())
        })
        .await;
        proxy.refuse(false);
    }
    let report = load.stop().await;
    until_acked(&env).await;
    assert_eq!(report.failures, Vec::<String>::new());
    count_creates(&open_store(&env).await?, &report.accepted).await?;
    drop(other);
    Ok(())
}

#[tokio::test]
async fn a_change_waits_as_long_as_mongodb_refuses_it() -> Result<()> {
    let system = System::start().await?;
    let database = Client::with_uri_str(system.env.mongo_uri()).await?;
    let database = database.database(system.env.database());
    let accepts = async |validator: Document| {
        database.run_command(doc! { "collMod": "events", "validator": validator }).await
    };
    accepts(doc! { "accepted": true }).await?;
    // The change of another write waits behind it.
    let messages = [
        system.create("alice", "bob", "first").await?,
        system.create("alice", "bob", "second").await?,
    ];
    eventually("the worker says that it is stuck", SOON, async || {
        let ready = system.worker.api()?.get("/readyz").await?;
        ensure!(ready.status == 503 && ready.text.contains("change_log"), "{}", ready.text);
        Ok(())
    })
    .await;
    assert_eq!(system.env.management().queue_depth("messages.commands").await?, 2);
    accepts(doc! {}).await?;
    until_acked(&system.env).await;
    let store = open_store(&system.env).await?;
    let logged: Vec<MessageId> =
        changes(&store).await?.into_iter().map(|change| change.message_id).collect();
    assert_eq!(logged, messages.map(|message| message.id));
    assert_eq!(system.env.management().queue_depth("messages.dead").await?, 0);
    system.worker.ready().await
}

#[tokio::test]
async fn entries_are_announced_with_the_epoch_which_an_operator_renews() -> Result<()> {
    let system = System::start().await?;
    let (env, management) = (&system.env, system.env.management());
    let store = open_store(env).await?;
    management.declare_queue("hints", json!({})).await?;
    let binding = format!("/api/bindings/{}/e/messages.events/q/hints", management.vhost());
    management.call(Method::POST, &binding, Some(json!({}))).await?;
    let epoch = store.log_epoch().await?.context("no epoch")?;
    let hint = async || {
        let hints = eventually("a hint arrives", SOON, async || {
            let hints = management.take("hints", 1).await?;
            ensure!(!hints.is_empty(), "none yet");
            Ok(hints)
        })
        .await;
        Ok::<_, anyhow::Error>(serde_json::from_slice::<Hint>(&hints[0].payload)?)
    };
    system.create("alice", "bob", "first").await?;
    let first = hint().await?;
    let entry = store.log_entry(1).await?.context("no entry")?;
    assert_eq!((first.epoch, first.entry), (epoch, entry));
    assert!(first.cluster_time.is_some());

    let renewal = env.storage_worker().arg("events").arg("new-epoch").output(SOON).await?;
    let renewed = store.log_epoch().await?.context("no epoch")?;
    assert_ne!(renewed, epoch);
    let printed = String::from_utf8(renewal.stdout)?;
    assert!(renewal.status.success() && printed.contains(&renewed.to_string()), "{printed}");
    eventually("hints have the new epoch", SOON, async || {
        system.create("alice", "bob", "again").await?;
        let hint = hint().await?;
        ensure!(hint.epoch == renewed, "{hint:?}");
        Ok(())
    })
    .await;
    let metrics = system.worker.api()?.get("/metrics").await?.text;
    for sample in ["messages_hints_total{result=\"dropped\"} 0", "messages_log_conflicts_total 0"] {
        assert!(metrics.contains(sample), "{metrics}");
    }
    Ok(())
}

#[tokio::test]
async fn a_worker_trims_the_log_to_its_retention() -> Result<()> {
    let system = System::start().await?;
    for content in ["first", "second", "third"] {
        system.create("alice", "bob", content).await?;
    }
    until_acked(&system.env).await;
    let store = open_store(&system.env).await?;
    let client = Client::with_uri_str(system.env.mongo_uri()).await?;
    let events = collection(&client, &system.env, "events");
    let hours_ago =
        |hours: i64| DateTime::from_millis(DateTime::now().timestamp_millis() - hours * 3_600_000);
    for (seq, hours) in [(1, 3), (2, 1)] {
        let old = doc! { "$set": { "at": hours_ago(hours) } };
        events.update_one(doc! { "_id": seq }, old).await?;
    }
    let worker = system.env.storage_worker().env("EVENTS_RETENTION_HOURS", 2).start().await?;
    eventually("the oldest entry is gone", SOON, async || {
        let oldest = store.oldest_log_entry().await?.map(|entry| entry.seq);
        ensure!(oldest == Some(2), "{oldest:?}");
        Ok(())
    })
    .await;
    let trimmed = "messages_log_trimmed_entries_total 1";
    let metrics = worker.api()?.get("/metrics").await?.text;
    assert!(metrics.contains(trimmed), "{metrics}");
    assert_eq!(store.log_from(0, 10).await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn writes_go_on_while_the_log_waits_until_the_prefetch_is_used_up() -> Result<()> {
    let env = TestEnvironment::new().await;
    let worker = faulty_worker(&env).env("PREFETCH", 4).start().await?;
    let gateway = env.gateway().env("WRITE_WAIT_MS", 1_000).start().await?;
    let api = gateway.api()?;
    for _ in 0..4 {
        created(&api, UNLOGGED, "bob", "hello").await?;
    }
    // The worker holds four deliveries, and gets no more.
    let answer = api.post("/api/messages", &draft("alice", "bob", "hello")).await?;
    assert_eq!(answer.status, 202, "{}", answer.text);
    assert_eq!(env.management().queue_depth("messages.commands").await?, 5);
    drop(worker);
    Ok(())
}
