//! Deliveries that cannot be applied.

use std::time::Duration;

use anyhow::{Context, Result};
use contracts::{Command, Failure, Message, Problem};
use end_to_end::{System, at_millis, create_command, draft, inject, inject_traced, open_store};
use serde_json::{Value, json};
use store::{AttemptId, RecordedOutcome};
use testkit::{FetchedMessage, PrivateBroker, ServiceBuilder, TestEnvironment, eventually};

const SOON: Duration = Duration::from_secs(10);

/// Some times as long as the worker waits for a confirm.
const LONG: Duration = Duration::from_secs(30);

/// A worker that panics over, or dies of, what asks for it.
fn faulty_worker(env: &TestEnvironment) -> ServiceBuilder {
    env.storage_worker().program(env!("CARGO_BIN_EXE_faulty-worker"))
}

/// Waits for this many dead letters, and takes them.
pub(crate) async fn dead_letters(env: &TestEnvironment, count: u32) -> Result<Vec<FetchedMessage>> {
    let management = env.management();
    eventually("the dead letters are in the queue", SOON, async || {
        let depth = management.queue_depth("messages.dead").await?;
        anyhow::ensure!(depth == u64::from(count), "{depth} are in the queue");
        Ok(())
    })
    .await;
    management.take("messages.dead", count + 1).await
}

pub(crate) fn reason(dead_letter: &FetchedMessage) -> Result<&str> {
    dead_letter.headers.get("x-dead-letter-reason").and_then(Value::as_str).context("no reason")
}

#[tokio::test]
async fn a_command_that_panics_the_worker_is_dead_lettered_and_its_neighbours_are_applied()
-> Result<()> {
    let env = TestEnvironment::new().await;
    let (worker, gateway) = tokio::try_join!(faulty_worker(&env).start(), env.gateway().start())?;
    let api = gateway.api()?;
    let commands =
        ["before", "panic!", "after"].map(|content| create_command("alice", "bob", content));
    let commands = commands.into_iter().collect::<Result<Vec<_>>>()?;
    inject(&env, &serde_json::to_vec(&commands)?).await?;
    let taken = dead_letters(&env, 1).await?;
    assert_eq!(reason(&taken[0])?, "applying it panicked: asked to");
    let answer = api.get("/api/messages?from_user_id=alice&to_user_id=bob").await?;
    assert_eq!(answer.json::<Vec<Message>>()?.len(), 2);
    // A client that waits is told, too, and its operation ends.
    let answer = api.post("/api/messages", &draft("alice", "bob", "panic!")).await?;
    assert_eq!(answer.status, 500, "{}", answer.text);
    assert_eq!(answer.json::<Problem>()?.type_uri, "/problems/dead-lettered");
    // The gateway's log has its request and its command, which is all that the worker's log knows.
    let taken = dead_letters(&env, 1).await?;
    let dead_letter: Vec<Command> = serde_json::from_slice(&taken[0].payload)?;
    let events = gateway.log_text();
    let event = events.lines().find(|line| line.contains("write dead-lettered"));
    let event: Value = serde_json::from_str(event.context("nothing is logged")?)?;
    assert_eq!(event["command.id"], dead_letter[0].id.to_string(), "{event}");
    assert_eq!(event["span"]["request.id"].as_str(), answer.header("x-request-id"), "{event}");
    drop(worker);
    Ok(())
}

#[tokio::test]
async fn a_command_that_kills_the_worker_is_dead_lettered_and_its_neighbours_are_applied()
-> Result<()> {
    a_killer_is_dead_lettered("abort!").await
}

#[tokio::test]
async fn so_is_one_that_takes_its_time_to_kill_the_worker() -> Result<()> {
    a_killer_is_dead_lettered("abort later!").await
}

#[tokio::test]
async fn a_command_during_an_alarm_is_dead_lettered_once() -> Result<()> {
    let broker = PrivateBroker::start().await?;
    let env = TestEnvironment::builder().broker(&broker).build().await;
    let worker = env.storage_worker().env("RUST_LOG", "info,broker=debug").start().await?;
    // The connection for dead letters is open before the alarm, too.
    inject(&env, b"no JSON").await?;
    dead_letters(&env, 1).await?;
    worker.process().freeze()?;
    inject(&env, b"no JSON either").await?;
    broker.raise_alarm().await?;
    worker.process().thaw()?;
    let waits = "dead-lettering waits for the end of the broker's alarm";
    eventually("the worker bears with the alarm, twice", LONG, async || {
        worker.log_text().matches(waits).count() >= 2
    })
    .await;
    let connections = env.management().connections().await?;
    let publishers = connections.iter().filter(|connection| {
        connection.user_provided_name.as_deref() == Some("storage-worker dead letters")
    });
    assert_eq!(publishers.count(), 1, "{connections:?}");
    broker.clear_alarm().await?;
    dead_letters(&env, 1).await?;
    // What would come a second time would come before this one.
    inject(&env, b"nor this").await?;
    dead_letters(&env, 1).await?;
    Ok(())
}

async fn a_killer_is_dead_lettered(content: &str) -> Result<()> {
    let env = TestEnvironment::new().await;
    let (mut worker, gateway) =
        tokio::try_join!(faulty_worker(&env).start(), env.gateway().start())?;
    let commands =
        ["before", content, "after"].map(|content| create_command("alice", "bob", content));
    let commands = commands.into_iter().collect::<Result<Vec<_>>>()?;
    inject(&env, &serde_json::to_vec(&commands)?).await?;
    // Its supervisor starts it again whenever it dies.
    let mut deaths = 0;
    let taken = loop {
        tokio::select! {
            taken = dead_letters(&env, 1) => break taken?,
            died = worker.process().exited(SOON) => {
                died?;
                deaths += 1;
                anyhow::ensure!(deaths < 20, "it is still not dead-lettered");
                // It may die again before it is ready.
                let _ = worker.restart().await;
            }
        }
    };
    assert!(reason(&taken[0])?.contains("killed a worker"), "{:?}", taken[0]);
    assert!(deaths >= 3, "{deaths} deaths");
    let path = "/api/messages?from_user_id=alice&to_user_id=bob";
    let api = gateway.api()?;
    eventually("its neighbours are applied", SOON, async || {
        let listed: Vec<Message> = api.get(path).await?.json()?;
        anyhow::ensure!(listed.len() == 2, "{} are there", listed.len());
        Ok(())
    })
    .await;
    Ok(())
}

#[tokio::test]
async fn workers_that_are_killed_while_a_redelivered_command_waits_for_mongodb_dead_letter_nothing()
-> Result<()> {
    let env = TestEnvironment::new().await;
    let gateway = env.gateway().start().await?;
    let commands = ["before", "stall!", "after"]
        .into_iter()
        .map(|content| create_command("alice", "bob", content))
        .collect::<Result<Vec<_>>>()?;
    inject(&env, &serde_json::to_vec(&commands)?).await?;
    let management = env.management();
    // Put back three times, it counts as redelivered so often that delivery attempts are counted.
    for _ in 0..3 {
        management.peek("messages.commands", 1).await?;
    }
    for _ in 0..4 {
        let worker = faulty_worker(&env).start_unready().await?;
        eventually("the suspect waits", SOON, async || {
            worker.log_text().contains("delivery attempt not counted")
        })
        .await;
        worker.kill()?;
    }
    let worker = env.storage_worker().start().await?;
    let api = gateway.api()?;
    eventually("all are applied", SOON, async || {
        let answer = api.get("/api/messages?from_user_id=alice&to_user_id=bob").await?;
        let listed: Vec<Message> = answer.json()?;
        anyhow::ensure!(listed.len() == 3, "{} are there", listed.len());
        Ok(())
    })
    .await;
    assert_eq!(management.queue_depth("messages.dead").await?, 0);
    drop(worker);
    Ok(())
}

#[tokio::test]
async fn a_command_whose_ack_was_lost_when_it_was_dead_lettered_is_dead_lettered_once() -> Result<()>
{
    let env = TestEnvironment::new().await;
    let killer = create_command("alice", "bob", "abort!")?;
    let neighbour = create_command("alice", "bob", "after")?;
    // The state after a worker that dead-lettered it and died before its ack.
    let store = open_store(&env).await?;
    for _ in 0..2 {
        store.record_attempt(killer.id, AttemptId::generate()).await?;
    }
    let dead = RecordedOutcome::Failed(Failure::DeadLettered);
    store.record_outcomes(&[(killer.id, killer.message_id(), dead)]).await?;
    let (worker, gateway) = tokio::try_join!(env.storage_worker().start(), env.gateway().start())?;
    let management = env.management();
    worker.terminate(SOON).await?;
    inject(&env, &serde_json::to_vec(&[&killer, &neighbour])?).await?;
    for _ in 0..3 {
        management.peek("messages.commands", 1).await?;
    }
    let worker = env.storage_worker().start().await?;
    eventually("the delivery is done with", SOON, async || {
        let depth = management.queue_depth("messages.commands").await?;
        anyhow::ensure!(depth == 0, "{depth} are left");
        Ok(())
    })
    .await;
    assert_eq!(management.queue_depth("messages.dead").await?, 0);
    let answer = gateway.api()?.get("/api/messages?from_user_id=alice&to_user_id=bob").await?;
    assert_eq!(answer.json::<Vec<Message>>()?.len(), 1);
    drop(worker);
    Ok(())
}

#[tokio::test]
async fn dead_lettering_goes_on_after_its_connection_was_lost() -> Result<()> {
    let system = System::start().await?;
    inject(&system.env, b"first").await?;
    dead_letters(&system.env, 1).await?;
    let management = system.env.management();
    eventually("the connection is known", SOON, async || {
        let connections = management.connections().await.ok()?;
        let publishers = connections.iter().find(|connection| {
            connection.user_provided_name.as_deref() == Some("storage-worker dead letters")
        })?;
        management.close_connection(&publishers.name).await.ok()
    })
    .await;
    let asked = std::time::Instant::now();
    inject(&system.env, b"second").await?;
    dead_letters(&system.env, 1).await?;
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_dead_letter_fits_into_its_headers_however_long_it_and_its_reason_are() -> Result<()> {
    let system = System::start().await?;
    // The reason quotes it, and the headers that it comes with are larger than most frames.
    let delivery = serde_json::to_vec(&"x".repeat(200_000))?;
    let traces = vec!["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"; 1_000];
    inject_traced(&system.env, &delivery, Some(json!(traces))).await?;
    let taken = dead_letters(&system.env, 1).await?;
    assert_eq!(taken[0].payload, delivery);
    let reason = taken[0].headers.get("x-dead-letter-reason").and_then(Value::as_str);
    assert_eq!(reason.map(str::len), Some(500));
    system.create("alice", "bob", "the worker goes on").await?;
    Ok(())
}

#[tokio::test]
async fn an_unreadable_command_is_dead_lettered_and_its_neighbours_are_applied() -> Result<()> {
    let system = System::start().await?;
    let (before, after) =
        (create_command("alice", "bob", "before")?, create_command("alice", "bob", "after")?);
    inject(&system.env, b"not JSON").await?;
    let neighbours = format!(
        "[{},{{\"format\":99}},{}]",
        serde_json::to_string(&before)?,
        serde_json::to_string(&after)?
    );
    inject(&system.env, neighbours.as_bytes()).await?;
    let mut late = create_command("alice", "bob", "a week late")?;
    late.issued_at = at_millis(late.issued_at, -7 * 24 * 60 * 60 * 1000)?;
    inject(&system.env, &serde_json::to_vec(&[&late])?).await?;

    eventually("the neighbours are applied", SOON, async || {
        system.list("alice", "bob").await.is_ok_and(|listed| listed.len() == 2)
    })
    .await;
    let management = system.env.management();
    let dead_letters = dead_letters(&system.env, 3).await?;
    assert_eq!(dead_letters[0].payload, b"not JSON");
    assert_eq!(dead_letters[1].payload, b"[{\"format\":99}]");
    assert!(reason(&dead_letters[0])?.starts_with("the delivery is not a JSON array of commands"));
    assert!(
        reason(&dead_letters[1])?
            .starts_with("the command cannot be read: unknown command format 99")
    );
    assert_eq!(reason(&dead_letters[2])?, "the create is older than 6 days");
    for dead_letter in &dead_letters {
        for header in ["x-dead-lettered-at", "x-dead-lettered-by", "x-dead-lettered-from"] {
            assert!(dead_letter.headers.contains_key(header), "{header} is missing");
        }
    }
    eventually("nothing is left to deliver", SOON, async || {
        let depth = management.queue_depth("messages.commands").await?;
        anyhow::ensure!(depth == 0, "{depth} are left");
        Ok(())
    })
    .await;
    Ok(())
}
