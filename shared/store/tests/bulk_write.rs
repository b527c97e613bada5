//! Many edits and deletions at once, concurrently with those of others.

mod commands;
mod common;

use std::collections::HashSet;

use anyhow::{Context, Result};
use contracts::{CommandId, Failure, MessageId, Outcome, Precondition, Timestamp};
use futures_util::future::try_join_all;
use store::{CreateCommand, Store, Update, UpdateCommand};
use testkit::TestEnvironment;

async fn create(store: &Store, count: usize) -> Result<Vec<CreateCommand>> {
    let creates: Vec<CreateCommand> = (0..count)
        .map(|number| {
            Ok(CreateCommand {
                content: format!("number {number}").try_into()?,
                ..commands::create()?
            })
        })
        .collect::<Result<_>>()?;
    store.create_many(&creates).await?;
    Ok(creates)
}

fn edit(create: &CreateCommand, content: String, after_millis: i64) -> Result<UpdateCommand> {
    let edited_at = create.publish_timestamp.unix_millis() + after_millis;
    let content = content.try_into()?;
    let edit_timestamp = Timestamp::from_unix_millis(edited_at)?;
    Ok(update(create.message_id, Update::Edit { content, edit_timestamp, seen: None }))
}

fn delete(message_id: MessageId) -> UpdateCommand {
    update(message_id, Update::Delete)
}

fn update(message_id: MessageId, update: Update) -> UpdateCommand {
    UpdateCommand {
        command_id: CommandId::generate(),
        message_id,
        actor: None,
        precondition: Precondition::default(),
        update,
    }
}

async fn all_are_applied(store: &Store) -> Result<()> {
    let creates = create(store, 1_200).await?;
    let updates: Vec<UpdateCommand> = creates
        .iter()
        .enumerate()
        .map(|(index, create)| {
            if index % 3 == 0 {
                return Ok(delete(create.message_id));
            }
            edit(create, format!("edit {index}"), 1)
        })
        .collect::<Result<_>>()?;
    // The second time everything has been done before.
    for _ in 0..2 {
        let outcomes = store.bulk_write(&updates).await?;
        assert_eq!(outcomes.len(), updates.len());
        for (index, outcome) in outcomes.into_iter().enumerate() {
            match outcome.context("no outcome")? {
                Outcome::Deleted => assert_eq!(index % 3, 0),
                Outcome::Edited(edited) => {
                    assert_eq!(edited.message.content.as_str(), format!("edit {index}"));
                    assert_eq!(edited.version, 2);
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(store.find(creates[0].message_id).await?, None);
    assert_eq!(store.find(creates[1].message_id).await?.context("gone")?.version, 2);
    Ok(())
}

#[tokio::test]
async fn more_updates_than_fit_into_one_command_are_all_applied() -> Result<()> {
    let env = TestEnvironment::new().await;
    all_are_applied(&common::open(&env).await?).await
}

#[tokio::test]
async fn a_standalone_server_applies_them_too() -> Result<()> {
    let env = TestEnvironment::builder().standalone_mongod().build().await;
    all_are_applied(&common::open(&env).await?).await
}

#[tokio::test]
async fn deletions_of_which_some_meet_nothing_tell_each_what_it_met() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    let creates = create(&store, 4).await?;
    let first: Vec<UpdateCommand> =
        creates[..2].iter().map(|create| delete(create.message_id)).collect();
    let mut second: Vec<UpdateCommand> =
        creates[1..].iter().map(|create| delete(create.message_id)).collect();
    second.push(delete(MessageId::generate()));
    second[2].precondition = Precondition::version(9);
    let (deleted, not_found) = (Some(Outcome::Deleted), Some(Outcome::Failed(Failure::NotFound)));
    let mismatch = Some(Outcome::Failed(Failure::VersionMismatch));
    let expected = [not_found.clone(), deleted.clone(), mismatch, not_found];
    assert_eq!(store.bulk_write(&first).await?, [deleted.clone(), deleted.clone()]);
    assert_eq!(store.bulk_write(&second).await?, expected);
    // Delivered again, each is told the same.
    assert_eq!(store.bulk_write(&first).await?, [deleted.clone(), deleted]);
    assert_eq!(store.bulk_write(&second).await?, expected);
    assert!(store.find(creates[3].message_id).await?.is_some());
    Ok(())
}

#[tokio::test]
async fn an_edit_is_answered_as_it_made_the_message_whatever_comes_after_it() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    let creates = create(&store, 2).await?;
    let writers = (0..40).map(|number| {
        let (store, creates) = (store.clone(), &creates);
        async move {
            let content = format!("writer {number}");
            let own = edit(&creates[0], content.clone(), 1)?;
            let other = edit(&creates[1], content.clone(), 1)?;
            let results = store.bulk_write(&[own, other]).await?;
            anyhow::Ok((content, results))
        }
    });
    let mut versions = HashSet::new();
    for (content, results) in try_join_all(writers).await? {
        // One that came too late for a newer one made no version.
        if let Some(Some(Outcome::Edited(edited))) = results.into_iter().next() {
            assert_eq!(edited.message.content.as_str(), content);
            assert!(versions.insert(edited.version), "version {} twice", edited.version);
        }
    }
    assert!(!versions.is_empty(), "no edit was applied");
    Ok(())
}
