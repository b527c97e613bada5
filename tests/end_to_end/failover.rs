//! Another member of the replica set becomes the primary: what clients read then.

use std::time::Duration;

use anyhow::{Result, ensure};
use end_to_end::{System, open_store, open_store_at};
use testkit::{PrivateReplicaSet, TestEnvironment, eventually};

const SOON: Duration = Duration::from_secs(20);

/// Keeps a member from learning which writes are confirmed. Without it, that takes milliseconds.
const NEWS_OF_CONFIRMED_WRITES_STOP: &str = "disableSnapshotting";

#[tokio::test]
async fn a_read_after_a_2xx_sees_the_write_on_the_next_primary_too() -> Result<()> {
    let set = PrivateReplicaSet::start().await?;
    let env = TestEnvironment::builder().replica_set(&set).build().await;
    let system = System::start_in(env).await?;
    let message = system.create("alice", "bob", "before").await?;
    let content_in = async |store: &store::Store| {
        let found = store.find(message.id).await?.map(|found| found.message.content);
        anyhow::Ok(found.map(|content| content.as_str().to_owned()))
    };
    // Otherwise the new primary would know of no confirmed write, and wait by itself.
    let direct = open_store_at(&system.env, &set.member(1).direct_url()).await?;
    eventually("the next primary knows of the first version", SOON, async || {
        let content = content_in(&direct).await?;
        ensure!(content.as_deref() == Some("before"), "{content:?}");
        Ok(())
    })
    .await;
    set.set_fail_point(1, NEWS_OF_CONFIRMED_WRITES_STOP, true).await?;
    let edited = system.edit(&message, "after").await?;
    set.step_up(1).await;

    // Who has not seen the edit gets what the new primary knows.
    let forgetful = open_store(&system.env).await?;
    assert_eq!(content_in(&forgetful).await?.as_deref(), Some("before"));
    let answer = system.api.get(&format!("/api/messages/{}", message.id)).await?;
    assert_eq!(answer.status, 503, "not the message as it was: {}", answer.text);
    set.set_fail_point(1, NEWS_OF_CONFIRMED_WRITES_STOP, false).await?;
    let read = eventually("reads succeed", SOON, async || system.read(&message).await).await;
    assert_eq!(read, Some(edited));
    Ok(())
}
