//! The log of changes while primaries are killed: no hole, nothing twice, nothing lost.

mod common;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use contracts::{Change, ChangeKind, MessageId};
use store::{LogAppender, PendingEntry, Store};
use testkit::{PrivateReplicaSet, TestEnvironment, eventually};
use tokio::time::sleep;
use uuid::Uuid;

/// Number of primaries that are killed.
const KILLED: usize = 2;

/// Number of entries between two faults.
const ENTRIES: usize = 100;

const LIMIT: Duration = Duration::from_mins(1);

/// Keeps a member from receiving writes.
const REPLICATION_STOPS: &str = "stopReplProducer";

fn new_entry() -> Result<PendingEntry> {
    Ok(PendingEntry::new(vec![Change {
        kind: ChangeKind::Created,
        message_id: MessageId::generate(),
        version: 1,
        from_user_id: "alice".to_owned().try_into()?,
        to_user_id: "bob".to_owned().try_into()?,
    }]))
}

/// Appends entries, each until it is acknowledged, and returns them.
async fn append_until(
    store: Store,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
) -> Result<Vec<(u64, Uuid)>> {
    let mut appender = LogAppender::new(store);
    let mut entries = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let mut pending = new_entry()?;
        let entry = loop {
            match appender.append(&mut pending).await {
                Ok(entry) => break entry,
                // As a worker does while there is no primary.
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        };
        entries.push((entry.seq, entry.append));
        acknowledged.fetch_add(1, Ordering::Relaxed);
    }
    Ok(entries)
}

#[tokio::test]
async fn no_number_follows_one_that_may_be_rolled_back() -> Result<()> {
    let set = PrivateReplicaSet::start().await?;
    let env = TestEnvironment::builder().replica_set(&set).build().await;
    let limit = Duration::from_secs(2);
    let connect = async || common::connect_for(&env, env.mongo_uri(), limit).await;
    let mut dying = LogAppender::new(connect().await?);
    let mut other = LogAppender::new(connect().await?);
    assert_eq!(dying.append(&mut new_entry()?).await?.seq, 1);
    for secondary in [1, 2] {
        set.set_fail_point(secondary, REPLICATION_STOPS, true).await?;
    }
    // Only the primary has this entry. Nobody will try it again.
    dying.append(&mut new_entry()?).await.unwrap_err();
    // The other one sees it, and must not count on it.
    let mut entry = new_entry()?;
    other.append(&mut entry).await.unwrap_err();
    set.member(0).kill()?;
    for secondary in [1, 2] {
        set.set_fail_point(secondary, REPLICATION_STOPS, false).await?;
    }
    let seq = eventually("the new primary takes the entry", LIMIT, async || {
        other.append(&mut entry).await.map(|appended| appended.seq)
    })
    .await;
    assert_eq!(seq, 2, "the log has a hole");
    Ok(())
}

#[tokio::test]
async fn killed_primaries_leave_no_hole_and_lose_no_acknowledged_entry() -> Result<()> {
    let mut set = PrivateReplicaSet::start().await?;
    let env = TestEnvironment::builder().replica_set(&set).build().await;
    let (stop, acknowledged) = (Arc::default(), Arc::default());
    let mut appenders = Vec::new();
    for _ in 0..2 {
        let store = common::open(&env).await?;
        let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
        appenders.push(tokio::spawn(append_until(store, stop, acknowledged)));
    }
    let further_entries = async || {
        let begun = acknowledged.load(Ordering::Relaxed);
        let check = async || acknowledged.load(Ordering::Relaxed) >= begun + ENTRIES;
        eventually("further entries are acknowledged", LIMIT, check).await;
    };
    for _ in 0..KILLED {
        further_entries().await;
        let primary = set.primary().await;
        set.member(primary).kill()?;
        // The others have a majority without it, and an entry that only it had is rolled back.
        further_entries().await;
        set.restart(primary).await?;
    }
    further_entries().await;
    stop.store(true, Ordering::Relaxed);
    let mut appended = BTreeSet::new();
    for appender in appenders {
        appended.extend(appender.await??);
    }
    let log = common::open(&env).await?.log_from(0, u16::MAX).await?;
    let numbers = log.iter().map(|entry| entry.seq).collect::<Vec<_>>();
    assert_eq!(numbers, (1..=log.len() as u64).collect::<Vec<_>>(), "the log has holes");
    let logged = log.iter().map(|entry| (entry.seq, entry.append)).collect::<BTreeSet<_>>();
    assert_eq!(logged, appended, "what was acknowledged, under its number, and nothing else");
    let appends = log.iter().map(|entry| entry.append).collect::<BTreeSet<_>>();
    assert_eq!(appends.len(), log.len(), "an entry is there twice");
    Ok(())
}
