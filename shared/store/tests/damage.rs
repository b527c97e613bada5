//! Documents that this code did not write: errors about them differ from an outage, which would be
//! waited for.

mod commands;
mod common;
mod documents;

use std::time::Duration;

use anyhow::Result;
use contracts::{
    CommandId, Failure, MessageId, OperationId, Outcome, Precondition, Timestamp, UserId,
};
use mongodb::{
    Client,
    bson::{self, Document, doc},
};
use store::{
    AttemptId, CreateCommand, ListQuery, RecordedOutcome, Store, StoreConfig, StoreSettings,
    Update, UpdateCommand,
};
use telemetry::error_chain;
use testkit::TestEnvironment;
use uuid::Uuid;

fn create(message_id: MessageId) -> Result<CreateCommand> {
    Ok(CreateCommand { message_id, ..commands::create()? })
}

fn edit(message_id: MessageId) -> Result<UpdateCommand> {
    let content = "second".to_owned().try_into()?;
    let edit_timestamp = Timestamp::from_unix_millis(Timestamp::now().unix_millis() + 1_000)?;
    Ok(update(message_id, Update::Edit { content, edit_timestamp, seen: None }))
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

#[tokio::test]
async fn a_damaged_message_is_a_permanent_error_for_every_command_on_it() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    let id = MessageId::generate();
    store.create_many(&[create(id)?]).await?;
    documents::change(&env, id, doc! { "$set": { "version": "two", "from_user_id": 7 } }).await?;

    let error = store.update(&edit(id)?).await.unwrap_err();
    assert!(error.is_permanent(), "{error:?}");
    let error = store.create_many(&[create(id)?]).await.unwrap_err();
    assert!(error.is_permanent(), "{error:?}");
    let error = store.create(&create(id)?).await.unwrap_err();
    assert!(error.is_permanent(), "{error:?}");
    assert_eq!(store.find(id).await?, None);
    // It can still be deleted.
    assert_eq!(store.update(&delete(id)).await?, Outcome::Deleted);
    Ok(())
}

#[tokio::test]
async fn a_damaged_tombstone_is_a_permanent_error_and_not_written_for_ever() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    let id = MessageId::generate();
    store.create_many(&[create(id)?]).await?;
    documents::change(&env, id, doc! { "$set": { "created_by": "somebody" } }).await?;
    let deletion = delete(id);
    assert_eq!(store.update(&deletion).await?, Outcome::Deleted);
    for again in [deletion, delete(id)] {
        let error = store.update(&again).await.unwrap_err();
        assert!(error.is_permanent(), "{error:?}");
        assert_eq!(store.bulk_write(&[again, delete(MessageId::generate())]).await?[0], None);
    }
    Ok(())
}

#[tokio::test]
async fn a_field_in_the_way_of_a_tombstone_is_a_permanent_error() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    let id = MessageId::generate();
    store.create_many(&[create(id)?]).await?;
    documents::change(&env, id, doc! { "$set": { "participants": "two" } }).await?;
    let error = store.update(&delete(id)).await.unwrap_err();
    assert!(error.is_permanent(), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn a_message_remembers_32_commands_with_the_versions_that_they_made() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    let id = MessageId::generate();
    store.create_many(&[create(id)?]).await?;
    let now = Timestamp::now().unix_millis();
    let mut edits = Vec::new();
    for number in 0..33 {
        let content = format!("edit {number}").try_into()?;
        let edit_timestamp = Timestamp::from_unix_millis(now + 1_000 + number)?;
        let edit = update(id, Update::Edit { content, edit_timestamp, seen: None });
        assert!(matches!(store.update(&edit).await?, Outcome::Edited(_)));
        edits.push(edit);
    }
    let version = async |index: usize| match store.update(&edits[index]).await? {
        Outcome::Edited(edited) => Ok(Some(edited.version)),
        Outcome::Superseded(_) => Ok(None),
        other => anyhow::bail!("{other:?}"),
    };
    assert_eq!(version(0).await?, None, "it is forgotten, and older than what is stored");
    assert_eq!(version(1).await?, Some(3));
    assert_eq!(version(32).await?, Some(34));
    assert_eq!(store.update(&delete(id)).await?, Outcome::Deleted);
    let then_deleted = Outcome::EditedThenDeleted { version: 34 };
    assert_eq!(store.update(&edits[32]).await?, then_deleted);
    assert_eq!(store.update(&edits[1]).await?, Outcome::Failed(Failure::NotFound));
    Ok(())
}

#[tokio::test]
async fn a_damaged_version_is_none_that_a_deletion_may_list() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    let id = MessageId::generate();
    store.create_many(&[create(id)?]).await?;
    documents::change(&env, id, doc! { "$set": { "version": "two" } }).await?;
    let precondition = Precondition::version(1);
    let conditional = UpdateCommand { precondition, ..delete(id) };
    let mismatch = Outcome::Failed(Failure::VersionMismatch);
    assert_eq!(store.update(&conditional).await?, mismatch);
    let if_none_match = vec![1].try_into()?;
    let precondition = Precondition { if_match: None, if_none_match };
    let excluding = UpdateCommand { precondition, ..delete(id) };
    assert_eq!(store.update(&excluding).await?, Outcome::Deleted);
    Ok(())
}

#[tokio::test]
async fn a_message_without_its_creator_is_no_message_for_reads_either() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    let id = MessageId::generate();
    store.create_many(&[create(id)?]).await?;
    documents::change(&env, id, doc! { "$unset": { "created_by": "" } }).await?;
    assert_eq!(store.find(id).await?, None);
    assert_eq!(store.update(&edit(id)?).await?, Outcome::Failed(Failure::NotFound));
    Ok(())
}

#[tokio::test]
async fn a_damaged_message_costs_neither_its_conversation_nor_a_sample() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    let ids = [MessageId::generate(), MessageId::generate(), MessageId::generate()];
    for id in ids {
        store.create_many(&[create(id)?]).await?;
    }
    documents::change(&env, ids[1], doc! { "$set": { "content": 7 } }).await?;
    // The damaged one is a page of its own, and the last of a page.
    for limit in [1, 2, 3] {
        let mut query = ListQuery {
            from_user_id: UserId::try_from("alice".to_owned())?,
            to_user_id: UserId::try_from("bob".to_owned())?,
            both_directions: false,
            after: None,
            limit,
        };
        let mut listed = Vec::new();
        loop {
            let page = store.list(&query).await?;
            listed.extend(page.messages.iter().map(|stored| stored.message.id));
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
        assert_eq!(listed, [ids[2], ids[0]], "pages of {limit}");
    }
    let sampled = store.next_of(&mut vec![ids[0], ids[1]]).await?;
    assert_eq!(sampled.map(|message| message.id), Some(ids[0]));
    Ok(())
}

#[tokio::test]
async fn a_message_whose_list_of_commands_is_damaged_can_be_deleted_and_not_edited() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    for update in [doc! { "$set": { "applied": 7 } }, doc! { "$unset": { "applied": "" } }] {
        let id = MessageId::generate();
        store.create_many(&[create(id)?]).await?;
        documents::change(&env, id, update.clone()).await?;
        let error = store.update(&edit(id)?).await.unwrap_err();
        assert!(error.is_permanent(), "{update}: {error:?}");
        let delete = delete(id);
        for _ in 0..2 {
            assert_eq!(store.update(&delete).await?, Outcome::Deleted, "{update}");
        }
        assert_eq!(store.find(id).await?, None, "{update}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_no_command_does_not_hide_the_commands_beside_it() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    let id = MessageId::generate();
    store.create_many(&[create(id)?]).await?;
    let first = edit(id)?;
    store.update(&first).await?;
    let other = doc! { "$each": [7, { "by": "whom" }], "$position": 0 };
    documents::change(
        &env,
        id,
        doc! { "$push": { "applied": other }, "$inc": { "version": 2_i64 } },
    )
    .await?;
    let delete = delete(id);
    assert_eq!(store.update(&delete).await?, Outcome::Deleted);
    assert_eq!(store.update(&delete).await?, Outcome::Deleted);
    assert_eq!(store.update(&first).await?, Outcome::EditedThenDeleted { version: 2 });
    Ok(())
}

#[tokio::test]
async fn an_outcome_recorded_in_unknown_words_counts_and_harms_no_other() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    let message_id = MessageId::generate();
    let [known, unknown, damaged, new] = std::array::from_fn(|_| CommandId::generate());
    let not_found = RecordedOutcome::Failed(Failure::NotFound);
    let raw = Client::with_uri_str(env.mongo_uri()).await?;
    let operations = raw.database(env.database()).collection::<Document>("operations");
    let id = |command| bson::Uuid::from_bytes(Uuid::from(command).into_bytes());
    // As a later version may write it, and as no version does.
    operations
        .insert_many([
            doc! { "_id": id(unknown), "message_id": bson::Uuid::new(),
            "ending": { "failed": "out_of_fashion" }, "recorded_at": bson::DateTime::now() },
            doc! { "_id": id(damaged) },
        ])
        .await?;
    store.record_outcomes(&[(known, message_id, not_found)]).await?;

    let all = [known, unknown, damaged, new].map(|command| (command, message_id, not_found));
    let recorded = store.record_outcomes(&all).await?;
    assert_eq!(recorded.len(), 4);
    assert_eq!((recorded[&known], recorded[&new]), (not_found, not_found));
    assert_eq!(
        (recorded[&unknown], recorded[&damaged]),
        (RecordedOutcome::Unknown, RecordedOutcome::Unknown)
    );
    let error = store.operation(OperationId::new(unknown, message_id), None).await.unwrap_err();
    assert!(error.is_permanent(), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn damaged_delivery_attempts_are_counted_anew() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    let raw = Client::with_uri_str(env.mongo_uri()).await?;
    let attempts = raw.database(env.database()).collection::<Document>("suspects");
    let command = CommandId::generate();
    let id = bson::Uuid::from_bytes(Uuid::from(command).into_bytes());
    attempts.insert_one(doc! { "_id": id, "tries": "many", "survived": "perhaps" }).await?;
    for attempt in 1..=2 {
        assert_eq!(store.record_attempt(command, AttemptId::generate()).await?, attempt);
    }
    Ok(())
}

#[tokio::test]
async fn what_the_server_refuses_by_its_schema_is_told_apart_from_what_it_stores() -> Result<()> {
    let env = TestEnvironment::new().await;
    let raw = Client::with_uri_str(env.mongo_uri()).await?;
    let validator = doc! { "to_user_id": { "$ne": "bob" } };
    raw.database(env.database()).create_collection("messages").validator(validator).await?;
    let store = common::open(&env).await?;
    let mut welcome = create(MessageId::generate())?;
    welcome.to_user_id = UserId::try_from("carol".to_owned())?;
    let refused = create(MessageId::generate())?;
    let outcomes = store.create_many(&[refused.clone(), welcome]).await?;
    assert_eq!(outcomes, [None, Some(Outcome::Created)]);
    let error = store.create(&refused).await.unwrap_err();
    assert!(error.is_permanent(), "{error:?}");
    assert!(error_chain(&error).to_string().contains("121"), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_not_there_is_no_permanent_error() -> Result<()> {
    let config = StoreConfig { uri: "mongodb://127.0.0.1:1".parse()?, database: "test".parse()? };
    let operation_timeout = Duration::from_millis(500);
    let settings = StoreSettings { operation_timeout, ..StoreSettings::new(config, "test") };
    let store = Store::new(settings).await?;
    let error = store.find(MessageId::generate()).await.unwrap_err();
    assert!(!error.is_permanent(), "{error:?}");
    Ok(())
}
