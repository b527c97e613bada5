//! What is left of a deleted message.

mod commands;
mod common;

use anyhow::{Context, Result};
use contracts::{CommandId, MessageId, Outcome, Precondition};
use mongodb::{
    Client, Collection,
    bson::{self, Bson, Document, doc},
};
use store::{CreateCommand, Store, Update, UpdateCommand};
use testkit::TestEnvironment;
use uuid::Uuid;

fn bson_id(id: impl Into<Uuid>) -> bson::Uuid {
    bson::Uuid::from_bytes(id.into().into_bytes())
}

fn command(message_id: MessageId, update: Update) -> UpdateCommand {
    UpdateCommand {
        command_id: CommandId::generate(),
        message_id,
        actor: None,
        precondition: Precondition::default(),
        update,
    }
}

/// Stores a message with version 2, and returns the command that made it.
async fn edited(store: &Store, create: &CreateCommand) -> Result<CommandId> {
    store.create_many(std::slice::from_ref(create)).await?;
    let edit = command(
        create.message_id,
        Update::Edit {
            content: "secret".to_owned().try_into()?,
            edit_timestamp: create.publish_timestamp.next_millisecond(),
            seen: None,
        },
    );
    store.update(&edit).await?;
    Ok(edit.command_id)
}

struct Messages(Collection<Document>);

impl Messages {
    async fn take(&self, id: MessageId) -> Result<Document> {
        let found = self.0.find_one_and_delete(doc! { "_id": bson_id(id) }).await?;
        found.context("no document")
    }
}

#[tokio::test]
async fn a_tombstone_keeps_users_version_and_commands_but_no_content() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    let raw = Client::with_uri_str(env.mongo_uri()).await?;
    let messages = Messages(raw.database(env.database()).collection("messages"));
    for (together, imported, damage, version) in [
        (false, false, None, 3_i64),
        (true, false, None, 3),
        (false, true, None, 3),
        (true, true, None, 3),
        (false, false, Some(doc! { "version": "two" }), 1),
        (true, true, Some(doc! { "applied": 7 }), 3),
    ] {
        let id = MessageId::generate();
        let created_by =
            if imported { CommandId::from(Uuid::from(id)) } else { CommandId::generate() };
        let create =
            CreateCommand { command_id: created_by, message_id: id, ..commands::create()? };
        let edit = edited(&store, &create).await?;
        if let Some(damage) = &damage {
            messages.0.update_one(doc! { "_id": bson_id(id) }, doc! { "$set": damage }).await?;
        }
        let delete = command(id, Update::Delete);
        let outcome = if together {
            let other = command(MessageId::generate(), Update::Delete);
            let outcomes = store.bulk_write(&[other, delete.clone()]).await?;
            outcomes.into_iter().nth(1).flatten().context("no outcome")?
        } else {
            store.update(&delete).await?
        };
        assert_eq!(outcome, Outcome::Deleted);

        let mut tombstone = messages.take(id).await?;
        let deleted_at = tombstone.remove("deleted_at").context("not deleted")?;
        // An index lets the dates expire, and no document.
        let expires = match &deleted_at {
            Bson::DateTime(_) => true,
            Bson::Document(deleted_at) => {
                deleted_at.get_datetime("imported")?;
                false
            }
            other => anyhow::bail!("deleted at {other}"),
        };
        assert_eq!(expires, !imported, "{deleted_at}");
        let mut applied = vec![bson_id(delete.command_id)];
        if damage.is_none() {
            applied.push(bson_id(edit));
        }
        let expected = doc! {
            "_id": bson_id(id),
            "version": version,
            "created_by": bson_id(created_by),
            "applied": applied,
            "participants": { "from": "alice", "to": "bob" },
        };
        let sorted = |document: Document| -> std::collections::BTreeMap<String, Bson> {
            document.into_iter().collect()
        };
        assert_eq!(sorted(tombstone), sorted(expected));
    }
    Ok(())
}
