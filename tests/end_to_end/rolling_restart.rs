//! Every service restarted, one replica after the other, while clients go on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use contracts::Message;
use end_to_end::{Load, created};
use testkit::{Balancer, ServiceProcess, TestEnvironment, eventually};
use tokio::task::JoinSet;

const SOON: Duration = Duration::from_secs(20);

/// Between two frames at most, also for a subscriber who is sent away and comes back.
const FAILOVER: Duration = Duration::from_secs(5);

/// Many polls of the balancer.
const DRAIN_DELAY_MS: u32 = 1_000;

/// Stops each replica gracefully and starts it again. The next one waits until the balancer takes
/// this one, and until the work has gone on.
async fn roll(
    replicas: &mut [ServiceProcess],
    balancer: &Balancer,
    goes_on: impl AsyncFn(),
) -> Result<()> {
    let count = replicas.len();
    for replica in replicas {
        let status = replica.terminate(SOON).await?;
        ensure!(status.success(), "{status}");
        goes_on().await;
        replica.restart().await?;
        eventually("all replicas are ready", SOON, async || balancer.ready() == count).await;
        goes_on().await;
    }
    Ok(())
}

async fn balanced(replicas: &[ServiceProcess]) -> Result<Arc<Balancer>> {
    let balancer = Balancer::start(replicas.iter().map(ServiceProcess::url))?;
    let count = replicas.len();
    eventually("all replicas are ready", SOON, async || balancer.ready() == count).await;
    Ok(Arc::new(balancer))
}

/// Listens until `stopped` and gives the longest time between two frames. Comes back when it is
/// sent away, which must be with 1001.
async fn longest_gap(balancer: Arc<Balancer>, stopped: Arc<AtomicBool>) -> Result<Duration> {
    let mut longest = Duration::ZERO;
    let mut last_frame = None;
    loop {
        let mut subscriber = balancer.subscribe("/api/chat").await?;
        loop {
            match subscriber.next_json::<Message>(SOON).await {
                Ok(_) => {
                    let now = Instant::now();
                    longest = longest.max(last_frame.map_or(Duration::ZERO, |last| now - last));
                    last_frame = Some(now);
                }
                Err(error) => {
                    ensure!(format!("{error:#}").contains("Away"), "{error:#}");
                    break;
                }
            }
            if stopped.load(Ordering::Relaxed) {
                return Ok(longest);
            }
        }
    }
}

#[tokio::test]
async fn a_rolling_restart_fails_no_request_and_leaves_no_gap_in_the_frames() -> Result<()> {
    let env = TestEnvironment::new().await;
    let start = async |service: testkit::ServiceBuilder| {
        let service = service.env("DRAIN_DELAY_MS", DRAIN_DELAY_MS);
        let (one, other) = (service.clone().on_own_port()?, service.on_own_port()?);
        let (one, other) = tokio::try_join!(one.start(), other.start())?;
        anyhow::Ok(vec![one, other])
    };
    let mut workers = start(env.storage_worker()).await?;
    let mut gateways = start(env.gateway()).await?;
    let mut broadcasters = start(env.broadcaster()).await?;
    created(&gateways.first().context("no gateway")?.api()?, "alice", "bob", "hello").await?;
    let to_gateways = balanced(&gateways).await?;
    let to_broadcasters = balanced(&broadcasters).await?;
    let to_workers = balanced(&workers).await?;

    let stopped = Arc::new(AtomicBool::new(false));
    let mut subscribers = JoinSet::new();
    for _ in 0..4 {
        subscribers.spawn(longest_gap(Arc::clone(&to_broadcasters), Arc::clone(&stopped)));
    }
    let load = Load::through(&to_gateways, 4);
    let goes_on = async || {
        let so_far = load.accepted();
        eventually("writes go on", SOON, async || load.accepted() > so_far + 20).await;
    };
    roll(&mut gateways, &to_gateways, goes_on).await?;
    roll(&mut workers, &to_workers, goes_on).await?;
    roll(&mut broadcasters, &to_broadcasters, goes_on).await?;

    let report = load.stop().await;
    assert_eq!(report.failures, Vec::<String>::new());
    stopped.store(true, Ordering::Relaxed);
    for gap in subscribers.join_all().await {
        let gap = gap?;
        assert!(gap < FAILOVER, "{gap:?} between two frames");
    }
    let api = gateways.first().context("no gateway")?.api()?;
    // What was answered 202 may still be on its way.
    for message in report.accepted {
        eventually("an accepted message is stored", SOON, async || {
            let answer = api.get(&format!("/api/messages/{}", message.id)).await?;
            let stored: Message = answer.json().with_context(|| answer.text.clone())?;
            ensure!(stored == message, "{stored:?} is stored, not {message:?}");
            Ok(())
        })
        .await;
    }
    assert!(!report.deleted.is_empty());
    for id in report.deleted {
        eventually("a deleted message is gone", SOON, async || {
            let answer = api.get(&format!("/api/messages/{id}")).await?;
            ensure!(answer.status == 404, "{} {}", answer.status, answer.text);
            Ok(())
        })
        .await;
    }
    Ok(())
}
