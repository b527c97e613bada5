//! Changes that users ask for: of their own messages only, also where a message is damaged.

mod commands;
mod common;
mod documents;

use anyhow::{Context, Result};
use contracts::{
    Actor, CommandId, Failure, MessageId, Outcome, Precondition, Scope, SeenMessage, Timestamp,
    UserId,
};
use mongodb::bson::doc;
use store::{CreateCommand, Store, Update, UpdateCommand};
use testkit::TestEnvironment;

const NOT_FOUND: Outcome = Outcome::Failed(Failure::NotFound);
const NOT_THE_SENDER: Outcome = Outcome::Failed(Failure::NotTheSender);

fn user(name: &str) -> Result<UserId> {
    Ok(name.to_owned().try_into()?)
}

fn by(name: &str) -> Result<Option<Actor>> {
    Ok(Some(Actor::User(user(name)?)))
}

fn service() -> Actor {
    Actor::Service { name: "moderation".to_owned(), scope: Scope::WriteAs }
}

fn delete(message_id: MessageId, actor: Option<Actor>) -> UpdateCommand {
    UpdateCommand {
        command_id: CommandId::generate(),
        message_id,
        actor,
        precondition: Precondition::default(),
        update: Update::Delete,
    }
}

fn edit(message_id: MessageId, actor: Option<Actor>) -> Result<UpdateCommand> {
    let content = "edited".to_owned().try_into()?;
    let edit_timestamp = Timestamp::from_unix_millis(Timestamp::now().unix_millis() + 1_000)?;
    let update = Update::Edit { content, edit_timestamp, seen: None };
    Ok(UpdateCommand { update, ..delete(message_id, actor) })
}

/// Stores a message from alice to bob.
async fn create(store: &Store) -> Result<MessageId> {
    let create = commands::create()?;
    anyhow::ensure!(store.create(&create).await? == Outcome::Created);
    Ok(create.message_id)
}

/// Applies a command by itself and together with another, which must not matter.
async fn outcome(store: &Store, command: &UpdateCommand) -> Result<Outcome> {
    let together = [delete(MessageId::generate(), None), command.clone()];
    let together = store.bulk_write(&together).await?;
    let together = together.into_iter().nth(1).flatten().context("no outcome")?;
    let alone = store.update(command).await?;
    anyhow::ensure!(alone == together, "{alone:?} is not {together:?}");
    Ok(alone)
}

#[tokio::test]
async fn a_damaged_message_is_deleted_by_its_sender_if_that_can_be_read() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    for damage in [
        doc! { "$set": { "version": "two" } },
        doc! { "$set": { "applied": 7 } },
        doc! { "$set": { "content": 7 } },
        // Only a tombstone tells its users there.
        doc! { "$set": { "content": 7, "participants": { "from": "mallory", "to": "alice" } } },
    ] {
        let id = create(&store).await?;
        documents::change(&env, id, damage.clone()).await?;
        for (name, refused) in [("mallory", NOT_FOUND), ("bob", NOT_THE_SENDER)] {
            for mut command in [delete(id, by(name)?), edit(id, by(name)?)?] {
                assert_eq!(outcome(&store, &command).await?, refused, "{damage} {name}");
                command.precondition = Precondition::version(9);
                assert_eq!(outcome(&store, &command).await?, refused, "{damage} {name}");
            }
        }
        let error = store.update(&edit(id, by("alice")?)?).await.unwrap_err();
        assert!(error.is_permanent(), "{damage}: {error:?}");
        assert_eq!(outcome(&store, &delete(id, by("alice")?)).await?, Outcome::Deleted, "{damage}");
    }
    Ok(())
}

#[tokio::test]
async fn a_message_whose_sender_cannot_be_read_is_deleted_by_no_user() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    for damage in [
        doc! { "$set": { "from_user_id": 7 } },
        doc! { "$unset": { "from_user_id": "" } },
        doc! { "$set": { "from_user_id": "a".repeat(65) } },
    ] {
        for actor in [Some(service()), None] {
            let id = create(&store).await?;
            documents::change(&env, id, damage.clone()).await?;
            for name in ["alice", "bob", "mallory"] {
                for command in [delete(id, by(name)?), edit(id, by(name)?)?] {
                    assert_eq!(outcome(&store, &command).await?, NOT_FOUND, "{damage} {name}");
                }
            }
            let deleted = outcome(&store, &delete(id, actor)).await?;
            assert_eq!(deleted, Outcome::Deleted, "{damage}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_damaged_tombstone_tells_nobody_but_its_sender() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    let id = create(&store).await?;
    store.update(&delete(id, by("alice")?)).await?;
    documents::change(&env, id, doc! { "$set": { "created_by": "somebody" } }).await?;
    for name in ["bob", "mallory"] {
        for command in [delete(id, by(name)?), edit(id, by(name)?)?] {
            assert_eq!(outcome(&store, &command).await?, NOT_FOUND, "{name}");
        }
    }
    let error = store.update(&delete(id, by("alice")?)).await.unwrap_err();
    assert!(error.is_permanent(), "{error:?}");
    // Nor does one that does not tell who that was.
    documents::change(&env, id, doc! { "$set": { "participants": 7 } }).await?;
    for name in ["alice", "bob", "mallory"] {
        assert_eq!(outcome(&store, &delete(id, by(name)?)).await?, NOT_FOUND, "{name}");
    }
    let error = store.update(&delete(id, None)).await.unwrap_err();
    assert!(error.is_permanent(), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn the_outcome_of_an_edit_names_the_users_of_the_message_whatever_was_seen() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    for (actor, from, to) in [
        (by("alice")?, "alice", "eve"),
        (by("alice")?, "mallory", "bob"),
        (Some(service()), "mallory", "bob"),
        (None, "alice", "eve"),
    ] {
        let id = create(&store).await?;
        let stored = store.find(id).await?.context("not found")?;
        let mut command = edit(id, actor)?;
        let Update::Edit { seen, .. } = &mut command.update else { anyhow::bail!("no edit") };
        *seen = Some(SeenMessage {
            version: stored.version,
            from_user_id: user(from)?,
            to_user_id: user(to)?,
            publish_timestamp: stored.message.publish_timestamp,
        });
        let edited = match outcome(&store, &command).await? {
            Outcome::Edited(edited) => edited.message,
            other => anyhow::bail!("{other:?}"),
        };
        assert_eq!((edited.from_user_id, edited.to_user_id), (user("alice")?, user("bob")?));
    }
    Ok(())
}

#[tokio::test]
async fn a_create_learns_no_more_of_another_senders_message_than_that_its_id_is_taken() -> Result<()>
{
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    let id = create(&store).await?;
    let own = CreateCommand { message_id: id, ..commands::create()? };
    let others = CreateCommand { from_user_id: user("mallory")?, ..own.clone() };
    let apply = async |create: &CreateCommand| -> Result<Outcome> {
        let together = store.create_many(std::slice::from_ref(create)).await?;
        let alone = store.create(create).await?;
        anyhow::ensure!(together == [Some(alone.clone())], "{alone:?} is not {together:?}");
        Ok(alone)
    };
    let taken = Outcome::Failed(Failure::KeyReused);
    assert!(matches!(apply(&own).await?, Outcome::Replayed(_)));
    assert_eq!(apply(&others).await?, taken);
    store.update(&delete(id, None)).await?;
    assert_eq!(apply(&own).await?, Outcome::Failed(Failure::DeletedSince));
    assert_eq!(apply(&others).await?, taken);
    Ok(())
}
