//! More load than can be taken while something is away: refused in time, bounded, caught up with.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use contracts::Message;
use end_to_end::{Load, LoadReport, System, draft};
use futures_util::future::try_join_all;
use reqwest::Method;
use serde_json::json;
use testkit::{PrivateBroker, PrivateMongod, Proxy, ServiceProcess, TestEnvironment, eventually};

const SOON: Duration = Duration::from_secs(30);

/// Maximum wait of a gateway for a confirm.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(2);

/// Limit of "refused within 2 s" on a machine that this load keeps busy.
const REFUSED_WITHIN: Duration = Duration::from_secs(4);

/// Duration of the load while the broker takes nothing.
const OVERLOAD: Duration = Duration::from_secs(10);

/// Duration of the outage of MongoDB.
const AWAY: Duration = Duration::from_secs(15);

/// Number of workers that are killed in one outage.
const KILLS: usize = 100;

/// Maximum growth of a gateway during the load.
const GROWTH_KIB: u64 = 20 * 1024;

/// Clients that ask at the same time.
const CLIENTS: usize = 32;

/// Patience of clients that leave before the response, and the number of requests that they leave behind: more
/// than can wait in a gateway.
const IMPATIENCE: Duration = Duration::from_millis(50);
const LEFT_BEHIND: usize = 4_500;

/// Returns the resident memory of a process, in KiB.
fn resident_kib(service: &ServiceProcess) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// Lets `load` run for [`OVERLOAD`], and returns the highest memory of the gateway during that time.
async fn peak_kib(gateway: &ServiceProcess, load: &Load) -> Result<u64> {
    let begun = Instant::now();
    let mut peak = 0;
    eventually("the overload is over", OVERLOAD + SOON, async || {
        peak = peak.max(resident_kib(gateway).unwrap_or(u64::MAX));
        begun.elapsed() > OVERLOAD && load.refused() > 2 * CLIENTS
    })
    .await;
    Ok(peak)
}

/// The gateway's memory after it has had this load while all was well.
async fn warm_kib(gateway: &ServiceProcess) -> Result<u64> {
    let load = Load::flood(&gateway.url(), CLIENTS)?;
    eventually("the gateway is warm", SOON, async || load.accepted() > 10 * CLIENTS).await;
    load.stop().await;
    resident_kib(gateway)
}

fn assert_bounded(before_kib: u64, peak_kib: u64) {
    // Shown where the test fails, or is asked to.
    println!("the gateway had {before_kib} KiB, and up to {peak_kib} KiB under the overload");
    assert!(peak_kib < before_kib + GROWTH_KIB, "{before_kib} KiB became {peak_kib} KiB");
}

fn assert_refused_in_time(report: &LoadReport) {
    assert!(report.slowest_failure < REFUSED_WITHIN, "{:?}", report.slowest_failure);
    println!("{} refused, the slowest after {:?}", report.failures.len(), report.slowest_failure);
    let odd = report.failures.iter().find(|failure| !failure.starts_with("503 "));
    assert_eq!(odd, None);
}

async fn drained(env: &TestEnvironment) {
    eventually("the backlog drains", SOON, async || {
        let depth = env.management().queue_depth("messages.commands").await?;
        anyhow::ensure!(depth == 0, "{depth} deliveries are left");
        Ok(())
    })
    .await;
}

async fn assert_all_stored(system: &System, accepted: Vec<Message>) -> Result<()> {
    for message in accepted {
        assert_eq!(system.read(&message).await?, Some(message));
    }
    assert_eq!(system.env.management().queue_depth("messages.dead").await?, 0);
    Ok(())
}

#[tokio::test]
async fn while_an_alarm_blocks_writes_they_are_refused_within_bounds_and_the_backlog_drains()
-> Result<()> {
    let broker = PrivateBroker::start().await?;
    let env = TestEnvironment::builder().broker(&broker).build().await;
    let system = System::start_in(env).await?;
    let before_kib = warm_kib(&system.gateway).await?;

    // A backlog, and an alarm in the middle of the load.
    system.worker.freeze()?;
    let gateway = system.env.gateway().env("WRITE_WAIT_MS", 0).start().await?;
    let backlog = Load::start(&gateway.url(), CLIENTS)?;
    eventually("there is a backlog", SOON, async || backlog.accepted() > 10 * CLIENTS).await;
    broker.raise_alarm().await?;
    eventually("the alarm blocks writes", SOON, async || backlog.refused() > 0).await;
    let backlog = backlog.stop().await;
    let load = Load::flood(&system.gateway.url(), CLIENTS)?;
    eventually("the load is refused", SOON, async || load.refused() > CLIENTS).await;
    system.worker.thaw()?;
    // Acks still work, though publishers are blocked.
    drained(&system.env).await;
    assert_bounded(before_kib, peak_kib(&system.gateway, &load).await?);
    broker.clear_alarm().await?;
    let so_far = load.accepted();
    eventually("writes succeed again", SOON, async || load.accepted() > so_far + CLIENTS).await;
    let report = load.stop().await;
    assert_refused_in_time(&report);
    assert_refused_in_time(&backlog);
    drained(&system.env).await;
    assert_all_stored(&system, [backlog.accepted, report.accepted].concat()).await
}

#[tokio::test]
async fn before_a_silent_broker_writes_are_refused_within_bounds() -> Result<()> {
    let system = System::start().await?;
    let (proxy, through) = Proxy::in_front_of(&system.env.rabbitmq_url()).await?;
    let gateway = system.env.gateway().env("RABBITMQ_URL", through).start().await?;
    let before_kib = warm_kib(&gateway).await?;
    proxy.freeze();
    let load = Load::flood(&gateway.url(), CLIENTS)?;
    assert_bounded(before_kib, peak_kib(&gateway, &load).await?);
    proxy.strand();
    let so_far = load.accepted();
    eventually("writes succeed again", SOON, async || load.accepted() > so_far + CLIENTS).await;
    let report = load.stop().await;
    assert_refused_in_time(&report);
    drained(&system.env).await;
    assert_all_stored(&system, report.accepted).await
}

#[tokio::test]
async fn before_a_silent_broker_writes_that_were_given_up_take_no_memory_and_no_place() -> Result<()>
{
    let system = System::start().await?;
    let (proxy, through) = Proxy::in_front_of(&system.env.rabbitmq_url()).await?;
    let gateway = system.env.gateway().env("RABBITMQ_URL", through);
    let gateway = gateway.env("RUST_LOG", "info,gateway::commands=debug").start().await?;
    let before_kib = warm_kib(&gateway).await?;
    proxy.freeze();
    let api = gateway.api()?;
    // Each has 16 KB as JSON.
    let draft = draft("alice", "bob", &"𝄞".repeat(4_000));
    let left = AtomicUsize::new(0);
    let impatient = async || {
        while left.fetch_add(1, Ordering::Relaxed) < LEFT_BEHIND {
            let request = api.request(Method::POST, "/api/messages").json(&draft);
            if let Ok(answer) = api.send(request.timeout(IMPATIENCE)).await {
                anyhow::bail!("{} {}", answer.status, answer.text);
            }
        }
        Ok(())
    };
    let leaving = try_join_all((0..CLIENTS).map(|_| impatient()));
    let mut peak = 0;
    let watching = eventually("they have left", 4 * SOON, async || {
        peak = peak.max(resident_kib(&gateway).unwrap_or(u64::MAX));
        left.load(Ordering::Relaxed) >= LEFT_BEHIND
    });
    tokio::join!(leaving, watching).0?;
    assert_bounded(before_kib, peak.max(resident_kib(&gateway)?));
    let answer = api.post("/api/messages", &draft).await?;
    assert_eq!(answer.status, 503, "{}", answer.text);
    let log = gateway.log_text();
    assert!(log.contains("the broker cannot be reached"), "why it was refused is not told");
    assert!(!log.contains("too many writes are waiting"), "it is refused for the sake of nobody");
    Ok(())
}

#[tokio::test]
async fn while_mongodb_is_away_writes_are_accepted_until_the_queue_is_full() -> Result<()> {
    let mut mongod = PrivateMongod::start().await?;
    let env = TestEnvironment::builder().mongod(&mongod).build().await;
    let system = System::start_in(env).await?;
    let gateway = system.env.gateway().env("WRITE_WAIT_MS", 0).start().await?;
    let limit = json!({ "max-length-bytes": 200_000 });
    system.env.management().set_policy("limit", "^messages.commands$", limit).await?;

    mongod.kill()?;
    let load = Load::start(&gateway.url(), 8)?;
    let begun = Instant::now();
    eventually("the queue is full", AWAY + SOON, async || {
        load.accepted() > 400 && load.refused() > 100 && begun.elapsed() > AWAY
    })
    .await;
    assert_eq!(system.env.management().queue_depth("messages.dead").await?, 0);
    mongod.restart().await?;
    let so_far = load.accepted();
    eventually("writes are accepted again", SOON, async || load.accepted() > so_far + 100).await;
    let report = load.stop().await;
    assert_refused_in_time(&report);
    let unsafe_to_repeat =
        report.failures.iter().find(|failure| !failure.contains("/problems/not-accepted"));
    // Only a broker that took too long for a confirm leaves a write open, as it may on a machine
    // that is this busy. A refusal by the queue never does.
    assert!(
        unsafe_to_repeat.is_none() || report.slowest_failure >= CONFIRM_TIMEOUT,
        "{unsafe_to_repeat:?} after {:?}",
        report.slowest_failure
    );
    drained(&system.env).await;
    assert_all_stored(&system, report.accepted).await
}

#[tokio::test]
async fn a_hundred_worker_kills_in_an_outage_dead_letter_nothing() -> Result<()> {
    let mut mongod = PrivateMongod::start().await?;
    let env = TestEnvironment::builder().mongod(&mongod).build().await;
    let mut system = System::start_in(env).await?;
    let gateway = system.env.gateway().env("WRITE_WAIT_MS", 0).start().await?;
    let api = gateway.api()?;

    mongod.kill()?;
    let mut accepted: Vec<Message> = Vec::new();
    for number in 0..KILLS {
        let answer =
            api.post("/api/messages", &draft("alice", "bob", &format!("number {number}"))).await?;
        assert_eq!(answer.status, 202, "{}", answer.text);
        accepted.push(answer.json()?);
        if number == 0 {
            eventually("the worker holds what it has taken", SOON, async || {
                system.worker.log_text().contains("failed to apply commands")
            })
            .await;
        }
        system.worker.kill()?;
        system.worker = system.env.storage_worker().start_unready().await?;
    }
    // Each was redelivered so often that its delivery attempts are counted.
    for _ in 0..3 {
        system.env.management().peek("messages.commands", u32::try_from(2 * KILLS)?).await?;
    }
    mongod.restart().await?;
    drained(&system.env).await;
    assert_all_stored(&system, accepted).await
}
