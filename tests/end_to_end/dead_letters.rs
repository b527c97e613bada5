//! The operator's tool for dead letters.

use std::time::Duration;

use anyhow::{Result, ensure};
use contracts::{Failure, OperationId};
use end_to_end::{System, create_command, inject, open_store};
use serde_json::Value;
use store::RecordedOutcome;
use testkit::{TestEnvironment, eventually};

const SOON: Duration = Duration::from_secs(20);

/// Runs `storage-worker dead-letters …`. Returns whether it succeeded, and all of its output.
pub(crate) async fn tool(env: &TestEnvironment, arguments: &[&str]) -> Result<(bool, String)> {
    let mut builder = env.storage_worker().arg("dead-letters");
    for argument in arguments {
        builder = builder.arg(*argument);
    }
    let output = builder.output(SOON).await?;
    let printed = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&printed).into_owned()))
}

async fn until_dead_lettered(env: &TestEnvironment, count: u64) {
    eventually("the dead letters are in the queue", SOON, async || {
        let depth = env.management().queue_depth("messages.dead").await?;
        ensure!(depth == count, "{depth} are in the queue");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn dead_letters_are_listed_shown_and_purged() -> Result<()> {
    let system = System::start().await?;
    let env = &system.env;
    assert_eq!(tool(env, &["list"]).await?, (true, "0 of 0 shown\n".to_owned()));
    for number in 0..5 {
        inject(env, format!("not JSON {number}").as_bytes()).await?;
    }
    until_dead_lettered(env, 5).await;
    let (_, listed) = tool(env, &["list", "--limit", "2", "--skip", "1"]).await?;
    assert_eq!(listed.lines().count(), 4, "{listed}");
    assert!(listed.ends_with("2 of 5 shown\n"), "{listed}");
    let ids: Vec<&str> = listed.lines().skip(1).filter_map(|line| line.split(' ').next()).collect();
    let (_, shown) = tool(env, &["show", ids[0]]).await?;
    assert!(shown.contains("not JSON 1"), "{shown}");
    assert!(shown.contains("dead-lettered at: ") && shown.contains("reason: "), "{shown}");
    let (_, planned) = tool(env, &["purge", "--dry-run", ids[0]]).await?;
    assert!(planned.starts_with("would purge"), "{planned}");
    until_dead_lettered(env, 5).await;
    let (succeeded, purged) = tool(env, &["purge", ids[0]]).await?;
    assert!(succeeded && purged.starts_with("purged"), "{purged}");
    until_dead_lettered(env, 4).await;
    let (succeeded, refused) = tool(env, &["purge", ids[0]]).await?;
    assert!(!succeeded && refused.contains("nothing was done"), "{refused}");
    assert!(tool(env, &["purge", "--all"]).await?.0);
    until_dead_lettered(env, 0).await;
    Ok(())
}

#[tokio::test]
async fn a_replayed_command_is_applied_once_and_its_operation_succeeds() -> Result<()> {
    let mut system = System::start().await?;
    let faulty = system.env.storage_worker().program(env!("CARGO_BIN_EXE_faulty-worker"));
    system.worker.terminate(SOON).await?;
    let faulty = faulty.start().await?;
    let create = create_command("alice", "bob", "panic!")?;
    inject(&system.env, &serde_json::to_vec(&[&create])?).await?;
    until_dead_lettered(&system.env, 1).await;
    let operation = OperationId::new(create.id, create.message_id());
    let operation = format!("/api/operations/{operation}");
    let status = async || -> Result<Value> {
        Ok(system.api.get(&operation).await?.json::<Value>()?["status"].clone())
    };
    assert_eq!(status().await?, "dead_lettered");
    // The fault is fixed, and the operator replays; then the command comes once more.
    faulty.terminate(SOON).await?;
    system.worker.restart().await?;
    let (_, planned) = tool(&system.env, &["replay", "--all", "--dry-run"]).await?;
    assert!(planned.starts_with("would replay"), "{planned}");
    until_dead_lettered(&system.env, 1).await;
    let (succeeded, replayed) = tool(&system.env, &["replay", "--all"]).await?;
    assert!(succeeded && replayed.starts_with("replayed"), "{replayed}");
    eventually("the operation succeeds", SOON, async || {
        status().await.is_ok_and(|status| status == "succeeded")
    })
    .await;
    inject(&system.env, &serde_json::to_vec(&[&create])?).await?;
    until_dead_lettered(&system.env, 0).await;
    assert_eq!(system.list("alice", "bob").await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_replayed_command_is_applied_though_its_dead_lettering_is_recorded_late() -> Result<()> {
    let system = System::start().await?;
    system.worker.terminate(SOON).await?;
    let faulty = system.env.storage_worker().program(env!("CARGO_BIN_EXE_faulty-worker"));
    let faulty = faulty.start().await?;
    let create = create_command("alice", "bob", "panic!")?;
    inject(&system.env, &serde_json::to_vec(&[&create])?).await?;
    until_dead_lettered(&system.env, 1).await;
    faulty.terminate(SOON).await?;
    assert!(tool(&system.env, &["replay", "--all"]).await?.0);
    // As a worker does that was frozen between dead-lettering and recording.
    let dead = RecordedOutcome::Failed(Failure::DeadLettered);
    let record = [(create.id, create.message_id(), dead)];
    open_store(&system.env).await?.record_outcomes(&record).await?;
    let worker = system.env.storage_worker().start().await?;
    eventually("it is applied", SOON, async || {
        system.list("alice", "bob").await.is_ok_and(|listed| listed.len() == 1)
    })
    .await;
    let operation = OperationId::new(create.id, create.message_id());
    let told = system.api.get(&format!("/api/operations/{operation}")).await?;
    assert_eq!(told.json::<Value>()?["status"], "succeeded");
    drop(worker);
    Ok(())
}
