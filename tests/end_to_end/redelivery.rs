//! Commands that are delivered again, or in another order than they were issued.

use std::time::Duration;

use anyhow::{Context, Result};
use contracts::{Command, Message};
use end_to_end::{
    System, at_millis, create_command, delete_command, edit_command, inject, open_store,
};
use testkit::{Proxy, TestEnvironment, eventually};

const SOON: Duration = Duration::from_secs(10);

async fn inject_all(system: &System, commands: &[&Command]) -> Result<()> {
    inject(&system.env, &serde_json::to_vec(commands)?).await
}

/// Waits until the worker has acked all that was injected before.
async fn until_applied(system: &System) -> Result<()> {
    eventually("all commands are applied", SOON, async || {
        let depth = system.env.management().queue_depth("messages.commands").await?;
        anyhow::ensure!(depth == 0, "{depth} deliveries are left");
        Ok(())
    })
    .await;
    Ok(())
}

#[tokio::test]
async fn a_deleted_message_stays_deleted_when_its_create_is_delivered_again() -> Result<()> {
    let system = System::start().await?;
    let create = create_command("alice", "bob", "hello")?;
    inject_all(&system, &[&create]).await?;
    until_applied(&system).await?;
    assert_eq!(system.list("alice", "bob").await?.len(), 1);
    let path = format!("/api/messages/{}", create.message_id());
    assert_eq!(system.api.delete(&path).await?.status, 204);
    for _ in 0..3 {
        inject_all(&system, &[&create]).await?;
    }
    until_applied(&system).await?;
    assert_eq!(system.api.get(&path).await?.status, 404);
    assert_eq!(system.list("alice", "bob").await?, []);
    Ok(())
}

#[tokio::test]
async fn a_command_delivered_five_times_takes_effect_once() -> Result<()> {
    let system = System::start().await?;
    let message = system.create("alice", "bob", "first").await?;
    let when = at_millis(message.publish_timestamp, 1_000)?;
    let edit = edit_command(message.id, "second", when, None)?;
    let conditional = edit_command(message.id, "third", at_millis(when, 1_000)?, Some(2))?;
    // Twice in one delivery, then one by one.
    inject_all(&system, &[&edit, &edit]).await?;
    for _ in 0..3 {
        inject_all(&system, &[&edit]).await?;
    }
    inject_all(&system, &[&conditional, &edit, &conditional]).await?;
    for _ in 0..3 {
        inject_all(&system, &[&conditional]).await?;
    }
    until_applied(&system).await?;
    let read = system.api.get(&format!("/api/messages/{}", message.id)).await?;
    assert_eq!(read.header("etag"), Some("\"3\""));
    assert_eq!(read.json::<Message>()?.content.as_str(), "third");
    Ok(())
}

#[tokio::test]
async fn an_old_edit_delivered_after_a_newer_one_changes_nothing() -> Result<()> {
    let system = System::start().await?;
    let message = system.create("alice", "bob", "first").await?;
    let older = at_millis(message.publish_timestamp, 1_000)?;
    let newer = at_millis(message.publish_timestamp, 2_000)?;
    inject_all(&system, &[&edit_command(message.id, "newer", newer, None)?]).await?;
    inject_all(&system, &[&edit_command(message.id, "older", older, None)?]).await?;
    until_applied(&system).await?;
    let read = system.read(&message).await?.context("gone")?;
    assert_eq!((read.content.as_str(), read.edit_timestamp), ("newer", Some(newer)));
    Ok(())
}

#[tokio::test]
async fn of_two_edits_at_the_same_instant_the_later_command_stands() -> Result<()> {
    let system = System::start().await?;
    let message = system.create("alice", "bob", "first").await?;
    let when = at_millis(message.publish_timestamp, 1_000)?;
    let first = edit_command(message.id, "first issued", when, None)?;
    let second = edit_command(message.id, "second issued", when, None)?;
    inject_all(&system, &[&second]).await?;
    inject_all(&system, &[&first]).await?;
    until_applied(&system).await?;
    let read = system.read(&message).await?.context("gone")?;
    assert_eq!(read.content.as_str(), "second issued");
    Ok(())
}

#[tokio::test]
async fn a_conditional_edit_never_moves_the_edit_timestamp_back() -> Result<()> {
    let system = System::start().await?;
    let message = system.create("alice", "bob", "first").await?;
    let ahead = at_millis(message.publish_timestamp, 60_000)?;
    inject_all(&system, &[&edit_command(message.id, "fast clock", ahead, None)?]).await?;
    let behind = at_millis(message.publish_timestamp, 1_000)?;
    inject_all(&system, &[&edit_command(message.id, "slow clock", behind, Some(2))?]).await?;
    until_applied(&system).await?;
    let read = system.read(&message).await?.context("gone")?;
    assert_eq!(read.content.as_str(), "slow clock");
    assert_eq!(read.edit_timestamp, Some(ahead.next_millisecond()));
    // A plain edit through the gateway is later than both, though this clock is behind.
    let edited = system.edit(&message, "after both").await?;
    assert!(edited.edit_timestamp > read.edit_timestamp);
    Ok(())
}

#[tokio::test]
async fn commands_of_one_delivery_for_one_message_are_applied_in_order() -> Result<()> {
    let system = System::start().await?;
    let create = create_command("alice", "bob", "first")?;
    let when = at_millis(create.issued_at, 1)?;
    let edit = edit_command(create.message_id(), "second", when, None)?;
    let delete = delete_command(create.message_id(), None);
    let kept = create_command("alice", "bob", "kept")?;
    let kept_edit = edit_command(kept.message_id(), "kept, edited", when, None)?;
    inject_all(&system, &[&create, &edit, &kept, &delete, &kept_edit]).await?;
    until_applied(&system).await?;
    let listed = system.list("alice", "bob").await?;
    let contents: Vec<&str> = listed.iter().map(|message| message.content.as_str()).collect();
    assert_eq!(contents, ["kept, edited"]);
    Ok(())
}

#[tokio::test]
async fn a_deletion_delivered_again_deletes_nothing_else_and_dead_letters_nothing() -> Result<()> {
    let system = System::start().await?;
    let message = system.create("alice", "bob", "first").await?;
    let delete = delete_command(message.id, None);
    for _ in 0..3 {
        inject_all(&system, &[&delete]).await?;
    }
    until_applied(&system).await?;
    assert_eq!(system.read(&message).await?, None);
    assert_eq!(system.env.management().queue_depth("messages.dead").await?, 0);
    Ok(())
}

#[tokio::test]
async fn what_failed_in_other_hands_meanwhile_is_not_applied_after_all() -> Result<()> {
    let env = TestEnvironment::new().await;
    let management = env.management();
    let (proxy, url) = Proxy::in_front_of(env.mongo_uri()).await?;
    let cut_off = env.storage_worker().env("MONGO_URI", url).start().await?;
    proxy.refuse(true);
    proxy.cut().await;
    let create = create_command("alice", "bob", "hello")?;
    let delete = delete_command(create.message_id(), None);
    inject(&env, &serde_json::to_vec(&[&delete])?).await?;
    eventually("it holds the deletion", SOON, async || {
        cut_off.log_text().contains("failed to apply commands")
    })
    .await;
    // The broker gives it to the other one, and the first does not learn that it has lost it.
    management.close_connections().await?;
    let store = open_store(&env).await?;
    let other = env.storage_worker().start().await?;
    eventually("it fails there, for there is no message", SOON, async || {
        let recorded = store.recorded_outcomes(std::iter::once(delete.id)).await?;
        anyhow::ensure!(!recorded.is_empty(), "nothing is recorded");
        Ok(())
    })
    .await;
    inject(&env, &serde_json::to_vec(&[&create])?).await?;
    eventually("the message comes after it", SOON, async || {
        anyhow::ensure!(store.find(create.message_id()).await?.is_some(), "it is not stored");
        Ok(())
    })
    .await;
    proxy.refuse(false);
    let consumes_again = async || cut_off.log_text().contains("can consume commands again");
    eventually("the first one is done with it", SOON, consumes_again).await;
    assert!(store.find(create.message_id()).await?.is_some(), "it was deleted after all");
    drop(other);
    Ok(())
}

#[tokio::test]
async fn commands_of_many_deliveries_for_one_message_are_applied_in_order() -> Result<()> {
    let system = System::start().await?;
    // One that takes two deliveries at once.
    system.worker.kill()?;
    let mut deleted = Vec::new();
    for round in 0..30 {
        // Much in one delivery, so that it takes longer than what comes behind it.
        let creates: Vec<Command> = (0..100)
            .map(|number| create_command("alice", "bob", &format!("{round}, {number}")))
            .collect::<Result<_>>()?;
        let last = creates.last().context("no create")?.message_id();
        inject_all(&system, &creates.iter().collect::<Vec<_>>()).await?;
        inject_all(&system, &[&delete_command(last, None)]).await?;
        deleted.push(last);
    }
    let _worker = system.env.storage_worker().env("PREFETCH", 2).start().await?;
    until_applied(&system).await?;
    for id in deleted {
        let read = system.api.get(&format!("/api/messages/{id}")).await?;
        assert_eq!(read.status, 404, "{}", read.text);
    }
    Ok(())
}
