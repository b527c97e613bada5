//! A service, the broker or the database is away: what clients are told, and what comes of it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use contracts::{Message, Problem};
use end_to_end::{System, draft};
use serde_json::{Value, json};
use testkit::{Answer, Api, PrivateBroker, PrivateMongod, Proxy, TestEnvironment, eventually};

const SOON: Duration = Duration::from_secs(20);

/// Limit of "refused within 2 s" on a busy machine.
const REFUSED_WITHIN: Duration = Duration::from_secs(3);

async fn post(api: &Api, content: &str) -> Result<Answer> {
    api.post("/api/messages", &draft("alice", "bob", content)).await
}

/// The answer, and that it came before a client would call it a hang.
async fn in_time(answer: impl Future<Output = Result<Answer>>) -> Result<Answer> {
    let asked = Instant::now();
    let answer = answer.await?;
    assert!(asked.elapsed() < REFUSED_WITHIN, "{} after {:?}", answer.status, asked.elapsed());
    Ok(answer)
}

async fn until_written(system: &System, content: &str) {
    eventually("writes succeed again", SOON, async || match post(&system.api, content).await {
        Ok(answer) if answer.status == 201 => Ok(()),
        Ok(answer) => Err(format!("{} {}", answer.status, answer.text)),
        Err(error) => Err(format!("{error:#}")),
    })
    .await;
}

#[tokio::test]
async fn without_a_worker_a_write_is_202_and_is_applied_once_one_is_back() -> Result<()> {
    let mut system = System::start().await?;
    let gateway = system.env.gateway().env("WRITE_WAIT_MS", 300).start().await?;
    let api = gateway.api()?;
    let doomed = system.create("alice", "bob", "doomed").await?;
    system.worker.kill()?;

    let answer = post(&api, "patience").await?;
    assert_eq!(answer.status, 202, "{}", answer.text);
    assert!(answer.header("retry-after").is_some());
    let message: Message = answer.json()?;
    let operation = answer.header("location").context("no Location")?.to_owned();
    assert!(operation.starts_with("/api/operations/"), "{operation}");
    let state: Value = api.get(&operation).await?.json()?;
    assert_eq!((&state["status"], &state["message_id"]), (&json!("pending"), &json!(message.id)));
    let answer = api.delete(&format!("/api/messages/{}", doomed.id)).await?;
    assert_eq!(answer.status, 202, "{}", answer.text);
    assert_eq!(api.get(&format!("/api/messages/{}", message.id)).await?.status, 404);

    system.worker.restart().await?;
    eventually(
        "the message appears",
        SOON,
        async || matches!(system.read(&message).await, Ok(Some(stored)) if stored == message),
    )
    .await;
    eventually("the deletion is applied", SOON, async || {
        matches!(system.read(&doomed).await, Ok(None))
    })
    .await;
    let state: Value = api.get(&operation).await?.json()?;
    assert_eq!(state["status"], "succeeded");
    Ok(())
}

#[tokio::test]
async fn while_the_broker_is_stopped_writes_are_503_and_recover_by_themselves() -> Result<()> {
    let mut broker = PrivateBroker::start().await?;
    let env = TestEnvironment::builder().broker(&broker).build().await;
    let system = System::start_in(env).await?;
    let stored = system.create("alice", "bob", "before").await?;

    broker.stop().await?;
    for _ in 0..3 {
        let answer = in_time(post(&system.api, "refused")).await?;
        assert_eq!(answer.status, 503, "{}", answer.text);
        assert!(answer.header("retry-after").is_some());
        let problem: Problem = answer.json()?;
        assert!(
            ["/problems/not-accepted", "/problems/outcome-unknown"].contains(&&*problem.type_uri),
            "{problem:?}"
        );
    }
    // Reads need no broker.
    assert_eq!(system.read(&stored).await?, Some(stored));
    // All gateways share the broker: if each of them were taken from the balancer, reads would fail.
    readiness_becomes(&system, "degraded").await;
    broker.restart().await?;
    until_written(&system, "after").await;
    readiness_becomes(&system, "ready").await;
    Ok(())
}

/// The gateway goes on saying that it can be sent requests.
async fn readiness_becomes(system: &System, status: &str) {
    eventually(&format!("the gateway is {status}"), SOON, async || {
        let answer = system.api.get("/readyz").await.ok()?;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let readiness: Value = answer.json().ok()?;
        (readiness["status"] == status).then_some(())
    })
    .await;
}

#[tokio::test]
async fn while_the_broker_is_frozen_writes_are_503_and_recover_by_themselves() -> Result<()> {
    let broker = PrivateBroker::start().await?;
    let env = TestEnvironment::builder().broker(&broker).build().await;
    let system = System::start_in(env).await?;
    system.create("alice", "bob", "before").await?;

    broker.freeze()?;
    for _ in 0..3 {
        let answer = in_time(post(&system.api, "refused")).await?;
        assert_eq!(answer.status, 503, "{}", answer.text);
    }
    broker.thaw()?;
    until_written(&system, "after").await;
    assert_eq!(system.env.management().queue_depth("messages.dead").await?, 0);
    Ok(())
}

#[tokio::test]
async fn before_a_frozen_broker_no_threads_or_sockets_pile_up() -> Result<()> {
    let broker = PrivateBroker::start().await?;
    let env = TestEnvironment::builder().broker(&broker).build().await;
    let system = System::start_in(env).await?;
    let count = |what: &str| -> Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/{what}", system.gateway.pid()))?.count())
    };
    let held = || -> Result<usize> { Ok(count("task")? + count("fd")?) };
    broker.freeze()?;
    // Until each connection has had its attempt that hangs: each post takes 2 s.
    for _ in 0..12 {
        assert_eq!(in_time(post(&system.api, "refused")).await?.status, 503);
    }
    let before = held()?;
    for _ in 0..14 {
        assert_eq!(in_time(post(&system.api, "refused")).await?.status, 503);
    }
    let after = held()?;
    // A probe's socket may be open at either time.
    assert!(after <= before + 2, "{before} threads and sockets became {after}");
    broker.thaw()?;
    until_written(&system, "after").await;
    Ok(())
}

#[tokio::test]
async fn a_service_ends_within_its_grace_while_the_broker_is_frozen() -> Result<()> {
    let broker = PrivateBroker::start().await?;
    let env = TestEnvironment::builder().broker(&broker).build().await;
    let services = [env.gateway(), env.storage_worker(), env.broadcaster()];
    let starting = services.map(|service| service.env("SHUTDOWN_GRACE_MS", 2000).start());
    let running = futures_util::future::try_join_all(starting).await?;
    broker.freeze()?;
    let asked = Instant::now();
    for status in
        futures_util::future::join_all(running.iter().map(|service| service.terminate(SOON))).await
    {
        assert!(status?.success());
    }
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_gateway_whose_broker_connections_are_cut_recovers_by_itself() -> Result<()> {
    let system = System::start().await?;
    let (proxy, through) = Proxy::in_front_of(&system.env.rabbitmq_url()).await?;
    let gateway = system.env.gateway().env("RABBITMQ_URL", through).start().await?;
    let api = gateway.api()?;
    assert_eq!(post(&api, "before").await?.status, 201);
    for round in 0..3 {
        proxy.cut().await;
        eventually("writes succeed again", SOON, async || {
            post(&api, &format!("after cut {round}")).await.is_ok_and(|answer| answer.status == 201)
        })
        .await;
    }
    Ok(())
}

#[tokio::test]
async fn while_the_broker_is_blocked_by_an_alarm_writes_are_503() -> Result<()> {
    let broker = PrivateBroker::start().await?;
    let env = TestEnvironment::builder().broker(&broker).build().await;
    let system = System::start_in(env).await?;
    system.create("alice", "bob", "before").await?;
    broker.raise_alarm().await?;
    for _ in 0..3 {
        let answer = in_time(post(&system.api, "refused")).await?;
        assert_eq!(answer.status, 503, "{}", answer.text);
    }
    broker.clear_alarm().await?;
    until_written(&system, "after").await;
    Ok(())
}

#[tokio::test]
async fn a_full_queue_refuses_writes_and_says_that_a_repeat_is_safe() -> Result<()> {
    let system = System::start().await?;
    let (gateway, refused) = system.fill_queue().await?;
    assert_eq!(refused.json::<Problem>()?.type_uri, "/problems/not-accepted");
    system.lift_queue_limit().await?;
    let api = gateway.api()?;
    eventually("the queue takes writes again", SOON, async || {
        post(&api, "room again").await.is_ok_and(|answer| answer.status == 202)
    })
    .await;
    Ok(())
}

#[tokio::test]
async fn while_mongodb_is_stopped_nothing_accepted_is_lost_or_dead_lettered() -> Result<()> {
    let mut mongod = PrivateMongod::start().await?;
    let env = TestEnvironment::builder().mongod(&mongod).build().await;
    let system = System::start_in(env).await?;
    let gateway = system.env.gateway().env("WRITE_WAIT_MS", 500).start().await?;
    let api = gateway.api()?;
    let doomed = system.create("alice", "bob", "doomed").await?;
    let path = format!("/api/messages/{}", doomed.id);

    mongod.kill()?;
    let mut accepted = Vec::new();
    for number in 0..10 {
        let answer = in_time(post(&api, &format!("number {number}"))).await?;
        assert_eq!(answer.status, 202, "{}", answer.text);
        accepted.push(answer.json::<Message>()?);
    }
    assert_eq!(in_time(api.delete(&path)).await?.status, 202);
    assert_eq!(in_time(api.get(&path)).await?.status, 503);
    assert_eq!(in_time(api.put(&path, &json!({ "content": "x" }))).await?.status, 503);
    let list = "/api/messages?from_user_id=alice&to_user_id=bob";
    assert_eq!(in_time(api.get(list)).await?.status, 503);
    eventually("the worker says it is not ready", SOON, async || {
        let answer = system.worker.api().ok()?.get("/readyz").await.ok()?;
        (answer.status == 503).then_some(())
    })
    .await;

    mongod.restart().await?;
    for message in accepted {
        let what = format!("{} is stored", message.id);
        eventually(
            &what,
            SOON,
            async || matches!(system.read(&message).await, Ok(Some(stored)) if stored == message),
        )
        .await;
    }
    eventually("the deletion is applied", SOON, async || {
        matches!(system.read(&doomed).await, Ok(None))
    })
    .await;
    assert_eq!(system.env.management().queue_depth("messages.dead").await?, 0);
    Ok(())
}

#[tokio::test]
async fn while_mongodb_is_frozen_reads_are_503_in_time_and_writes_are_202() -> Result<()> {
    let mongod = PrivateMongod::start().await?;
    let env = TestEnvironment::builder().mongod(&mongod).build().await;
    let system = System::start_in(env).await?;
    let gateway = system.env.gateway().env("WRITE_WAIT_MS", 500).start().await?;
    let api = gateway.api()?;
    let stored = system.create("alice", "bob", "before").await?;
    let path = format!("/api/messages/{}", stored.id);
    mongod.freeze()?;
    let answer = in_time(post(&api, "meanwhile")).await?;
    assert_eq!(answer.status, 202);
    // More than there are connections: abandoned reads must not hold the next ones up.
    let reads = (0..100).map(|_| in_time(api.get(&path)));
    for answer in futures_util::future::try_join_all(reads).await? {
        assert_eq!(answer.status, 503);
    }
    mongod.thaw()?;
    let message: Message = answer.json()?;
    eventually(
        "the message is stored",
        SOON,
        async || matches!(system.read(&message).await, Ok(Some(stored)) if stored == message),
    )
    .await;
    assert_eq!(system.env.management().queue_depth("messages.dead").await?, 0);
    Ok(())
}
