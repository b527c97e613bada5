//! Reads are never older than what their process has seen, whatever the servers say.

mod commands;
mod common;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use contracts::{ClusterTime, CommandId, MessageId, Precondition, Timestamp};
use store::{Store, Update, UpdateCommand};
use testkit::{PrivateReplicaSet, TestEnvironment, eventually};

const LIMIT: Duration = Duration::from_mins(1);

/// Keeps a member from learning which writes are confirmed. After a failover that may last as long as the other members
/// lag behind.
const NEWS_OF_CONFIRMED_WRITES_STOP: &str = "disableSnapshotting";

async fn edit(store: &Store, message_id: MessageId, content: &str) -> Result<()> {
    let update = Update::Edit {
        content: content.to_owned().try_into()?,
        edit_timestamp: Timestamp::now().next_millisecond(),
        seen: None,
    };
    let command_id = CommandId::generate();
    let precondition = Precondition::default();
    store
        .update(&UpdateCommand { command_id, message_id, actor: None, precondition, update })
        .await?;
    Ok(())
}

async fn version(store: &Store, id: MessageId) -> Result<u64> {
    Ok(store.find(id).await?.context("the message is stored")?.version)
}

#[tokio::test]
async fn after_a_failover_no_read_is_older_than_what_was_seen() -> Result<()> {
    let set = PrivateReplicaSet::start().await?;
    let env = TestEnvironment::builder().replica_set(&set).build().await;
    let writer = common::open(&env).await?;
    let create = commands::create()?;
    let id = create.message_id;
    writer.create(&create).await?;
    // Otherwise the new primary would know of no confirmed write, and wait by itself.
    eventually("the next primary knows of the first version", LIMIT, async || {
        let direct = common::connect(&env, &set.member(1).direct_url()).await?;
        anyhow::ensure!(version(&direct, id).await? == 1);
        anyhow::Ok(())
    })
    .await;
    set.set_fail_point(1, NEWS_OF_CONFIRMED_WRITES_STOP, true).await?;
    edit(&writer, id, "edited").await?;
    let (forgetful, told) = (common::open(&env).await?, common::open(&env).await?);
    told.advance(writer.cluster_time().context("a replica set has times")?);

    set.step_up(1).await;
    assert_eq!(version(&forgetful, id).await?, 1, "majority reads alone go back in time");
    let seen = tokio::spawn(async move { (version(&writer, id).await, version(&told, id).await) });
    assert_eq!(version(&forgetful, id).await?, 1);
    set.set_fail_point(1, NEWS_OF_CONFIRMED_WRITES_STOP, false).await?;
    let (by_writer, by_told) = seen.await?;
    assert_eq!((by_writer?, by_told?), (2, 2));
    Ok(())
}

#[tokio::test]
async fn a_time_that_no_server_knows_does_not_stop_reads_for_ever() -> Result<()> {
    let set = TestEnvironment::builder().build();
    let standalone = TestEnvironment::builder().standalone_mongod().build();
    let (set, standalone) = tokio::join!(set, standalone);
    tokio::try_join!(reads_go_on(&set), reads_go_on(&standalone))?;
    Ok(())
}

async fn reads_go_on(env: &TestEnvironment) -> Result<()> {
    let store = common::open(env).await?;
    let create = commands::create()?;
    store.create(&create).await?;
    let unknown = ClusterTime::new(u32::MAX / 2, 1);
    store.advance(unknown);
    // A deposed primary does not know it either, and must not be read.
    let Err(error) = version(&store, create.message_id).await else {
        bail!("a read of what is older than the time");
    };
    assert!(!error.downcast::<store::StoreError>()?.is_permanent());
    eventually("reads go on without the time", LIMIT, async || {
        version(&store, create.message_id).await
    })
    .await;
    assert!(store.cluster_time() < Some(unknown));
    Ok(())
}
