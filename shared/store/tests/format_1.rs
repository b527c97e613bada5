//! Documents in storage format 1, byte for byte as release 0.1 wrote them: they stay readable, and each of the commands
//! that made them keeps its outcome.

mod common;

use std::collections::HashMap;

use anyhow::{Context, Result};
use contracts::{
    CommandId, Failure, MessageId, OperationId, Outcome, Precondition, Timestamp, UserId, Version,
};
use mongodb::{
    Client, Collection,
    bson::{Document, doc},
};
use store::{
    CreateCommand, ListQuery, OperationState, RecordedOutcome, Store, Update, UpdateCommand,
};
use testkit::TestEnvironment;

/// MongoDB's extended JSON.
const FIXTURE: &str = include_str!("fixtures/format_1.json");

const PLAIN: &str = "019aa000-0000-7000-8000-000000000001";
const EDITED: &str = "019aa000-0000-7000-8000-000000000002";
const DELETED: &str = "019aa000-0000-7000-8000-000000000003";

/// Commands of the fixture, by what they did.
const CREATED_PLAIN: &str = "019aa000-0000-7000-8000-0000000000a1";
const FIRST_EDIT: &str = "019aa000-0000-7000-8000-0000000000b1";
const SECOND_EDIT: &str = "019aa000-0000-7000-8000-0000000000b2";
const EDIT_BEFORE_DELETION: &str = "019aa000-0000-7000-8000-0000000000c1";
const DELETION: &str = "019aa000-0000-7000-8000-0000000000c2";
const SUPERSEDED: &str = "019aa000-0000-7000-8000-0000000000d1";
const NOT_FOUND: &str = "019aa000-0000-7000-8000-0000000000d2";

fn message(id: &str) -> Result<MessageId> {
    Ok(serde_json::from_value(id.into())?)
}

fn command(id: &str) -> Result<CommandId> {
    Ok(serde_json::from_value(id.into())?)
}

struct Fixture {
    store: Store,
    messages: Collection<Document>,
    /// Keeps the database.
    _env: TestEnvironment,
}

async fn fixture() -> Result<Fixture> {
    let env = TestEnvironment::new().await;
    let database = Client::with_uri_str(env.mongo_uri()).await?.database(env.database());
    let fixture: HashMap<String, Vec<Document>> = serde_json::from_str(FIXTURE)?;
    for (collection, documents) in fixture {
        database.collection(&collection).insert_many(documents).await?;
    }
    let messages = database.collection("messages");
    Ok(Fixture { store: common::open(&env).await?, messages, _env: env })
}

fn edit(id: &str, message_id: &str, at: &str) -> Result<UpdateCommand> {
    Ok(UpdateCommand {
        command_id: command(id)?,
        message_id: message(message_id)?,
        actor: None,
        precondition: Precondition::default(),
        update: Update::Edit {
            content: format!("by {}", &id[34..]).try_into()?,
            edit_timestamp: at.parse()?,
            seen: None,
        },
    })
}

fn delete(id: &str, message_id: &str) -> Result<UpdateCommand> {
    let update = Update::Delete;
    Ok(UpdateCommand { update, ..edit(id, message_id, "2026-01-31T12:00:00Z")? })
}

/// Delivers the command by itself and with another, and returns what both gave.
async fn outcome(store: &Store, command: &UpdateCommand) -> Result<Outcome> {
    let alone = store.update(command).await?;
    let other = UpdateCommand { message_id: MessageId::generate(), ..command.clone() };
    let together = store.bulk_write(&[other, command.clone()]).await?;
    anyhow::ensure!(together.get(1) == Some(&Some(alone.clone())), "{together:?} is not {alone:?}");
    Ok(alone)
}

fn edited_version(outcome: &Outcome) -> Option<(Version, &str)> {
    let Outcome::Edited(edited) = outcome else { return None };
    Some((edited.version, edited.message.content.as_str()))
}

#[tokio::test]
async fn messages_are_read_and_listed() -> Result<()> {
    let Fixture { store, .. } = &fixture().await?;
    let plain = store.find(message(PLAIN)?).await?.context("not found")?;
    assert_eq!((plain.version, plain.message.content.as_str()), (1, "hello"));
    let edited = store.find(message(EDITED)?).await?.context("not found")?;
    assert_eq!((edited.version, edited.message.content.as_str()), (3, "by b2"));
    assert_eq!(edited.message.edit_timestamp, Some("2026-01-31T12:00:02Z".parse()?));
    assert_eq!(store.find(message(DELETED)?).await?, None);
    let query = ListQuery {
        from_user_id: UserId::try_from("alice".to_owned())?,
        to_user_id: UserId::try_from("bob".to_owned())?,
        both_directions: false,
        after: None,
        limit: 10,
    };
    assert_eq!(store.list(&query).await?.messages, [edited, plain]);
    Ok(())
}

#[tokio::test]
async fn each_command_keeps_its_outcome() -> Result<()> {
    let Fixture { store, .. } = &fixture().await?;
    let create = CreateCommand {
        command_id: command(CREATED_PLAIN)?,
        message_id: message(PLAIN)?,
        from_user_id: UserId::try_from("alice".to_owned())?,
        to_user_id: UserId::try_from("bob".to_owned())?,
        content: "hello".to_owned().try_into()?,
        publish_timestamp: "2026-01-31T12:00:00Z".parse()?,
    };
    assert_eq!(store.create(&create).await?, Outcome::Created);
    let repeated = CreateCommand { command_id: CommandId::generate(), ..create.clone() };
    assert!(matches!(store.create(&repeated).await?, Outcome::Replayed(_)));
    let resurrecting = CreateCommand { message_id: message(DELETED)?, ..repeated };
    assert_eq!(store.create(&resurrecting).await?, Outcome::Failed(Failure::DeletedSince));

    let first = outcome(store, &edit(FIRST_EDIT, EDITED, "2026-01-31T12:00:01Z")?).await?;
    assert_eq!(edited_version(&first), Some((2, "by b1")));
    let second = outcome(store, &edit(SECOND_EDIT, EDITED, "2026-01-31T12:00:02Z")?).await?;
    assert_eq!(edited_version(&second), Some((3, "by b2")));
    let edit = edit(EDIT_BEFORE_DELETION, DELETED, "2026-01-31T12:00:01Z")?;
    assert_eq!(outcome(store, &edit).await?, Outcome::EditedThenDeleted { version: 2 });
    assert_eq!(outcome(store, &delete(DELETION, DELETED)?).await?, Outcome::Deleted);
    let again = UpdateCommand { command_id: CommandId::generate(), ..delete(DELETION, DELETED)? };
    assert_eq!(outcome(store, &again).await?, Outcome::Failed(Failure::NotFound));
    Ok(())
}

#[tokio::test]
async fn operations_keep_their_state() -> Result<()> {
    let Fixture { store, .. } = &fixture().await?;
    for (command_id, message_id) in [
        (CREATED_PLAIN, PLAIN),
        (FIRST_EDIT, EDITED),
        (SECOND_EDIT, EDITED),
        (EDIT_BEFORE_DELETION, DELETED),
        (DELETION, DELETED),
        (SUPERSEDED, EDITED),
    ] {
        let id = OperationId::new(command(command_id)?, message(message_id)?);
        assert_eq!(store.operation(id, None).await?, OperationState::Succeeded, "{command_id}");
    }
    let id = OperationId::new(command(NOT_FOUND)?, MessageId::generate());
    assert_eq!(store.operation(id, None).await?, OperationState::Failed(Failure::NotFound));
    let recorded = store.recorded_outcomes([command(SUPERSEDED)?]).await?;
    assert_eq!(recorded.get(&command(SUPERSEDED)?), Some(&RecordedOutcome::Superseded));
    Ok(())
}

#[tokio::test]
async fn a_message_that_is_changed_remembers_the_commands_of_both_formats() -> Result<()> {
    let Fixture { store, messages, .. } = &fixture().await?;
    let third = edit("019aa000-0000-7000-8000-0000000000b3", EDITED, "2026-01-31T12:00:03Z")?;
    assert_eq!(edited_version(&outcome(store, &third).await?), Some((4, "by b3")));
    let second = edit(SECOND_EDIT, EDITED, "2026-01-31T12:00:02Z")?;
    assert_eq!(edited_version(&outcome(store, &second).await?), Some((3, "by b2")));
    let late = edit("019aa000-0000-7000-8000-0000000000b0", EDITED, "2026-01-31T12:00:02Z")?;
    assert!(matches!(outcome(store, &late).await?, Outcome::Superseded(_)));

    let deletion = delete("019aa000-0000-7000-8000-0000000000b4", EDITED)?;
    assert_eq!(outcome(store, &deletion).await?, Outcome::Deleted);
    for (command, version) in [(&third, 4), (&second, 3)] {
        assert_eq!(outcome(store, command).await?, Outcome::EditedThenDeleted { version });
    }
    let tombstone = messages.find_one(doc! { "applied.2.version": 3_i64 }).await?;
    let tombstone = tombstone.context("no tombstone")?;
    assert_eq!(tombstone.get_i64("version")?, 5);
    assert_eq!(tombstone.get_document("participants")?, &doc! { "from": "alice", "to": "bob" });
    Ok(())
}

#[tokio::test]
async fn an_edit_at_the_instant_of_the_stored_one_is_decided_by_the_ids_of_both_formats()
-> Result<()> {
    let Fixture { store, .. } = &fixture().await?;
    let at = "2026-01-31T12:00:02Z";
    let newer = edit("019aa000-0000-7000-8000-0000000000b3", EDITED, at)?;
    let older = edit("019aa000-0000-7000-8000-0000000000b0", EDITED, at)?;
    assert!(matches!(outcome(store, &older).await?, Outcome::Superseded(_)));
    assert_eq!(edited_version(&outcome(store, &newer).await?), Some((4, "by b3")));
    Ok(())
}

#[tokio::test]
async fn an_edit_whose_gateway_saw_format_1_is_applied_and_is_told_apart_when_it_returns()
-> Result<()> {
    let Fixture { store, .. } = &fixture().await?;
    let seen = store.find(message(EDITED)?).await?.context("not found")?;
    let mut third = edit("019aa000-0000-7000-8000-0000000000b3", EDITED, "2026-01-31T12:00:03Z")?;
    let Update::Edit { seen: seen_by_gateway, .. } = &mut third.update else {
        anyhow::bail!("no edit");
    };
    *seen_by_gateway = Some(contracts::SeenMessage {
        version: seen.version,
        from_user_id: seen.message.from_user_id,
        to_user_id: seen.message.to_user_id,
        publish_timestamp: seen.message.publish_timestamp,
    });
    assert_eq!(edited_version(&outcome(store, &third).await?), Some((4, "by b3")));
    let first = edit(FIRST_EDIT, EDITED, "2026-01-31T12:00:01Z")?;
    assert_eq!(edited_version(&outcome(store, &first).await?), Some((2, "by b1")));
    assert!(store.find(message(EDITED)?).await?.is_some_and(|stored| {
        stored.message.edit_timestamp == Timestamp::from_unix_millis(1_769_860_803_000).ok()
    }));
    Ok(())
}
