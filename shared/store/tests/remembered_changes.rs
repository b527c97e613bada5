//! Changes that messages remember of the commands that changed them, for the log of changes.

mod commands;
mod common;
mod documents;

use anyhow::Result;
use contracts::{Change, ChangeKind, CommandId, MessageId, Precondition, Version};
use mongodb::bson::doc;
use store::{CreateCommand, Store, Update, UpdateCommand};
use testkit::TestEnvironment;

fn command(message_id: MessageId, update: Update) -> UpdateCommand {
    let precondition = Precondition::default();
    UpdateCommand {
        command_id: CommandId::generate(),
        message_id,
        actor: None,
        precondition,
        update,
    }
}

/// Stores a message and edits it. Returns the commands that did.
async fn edited(store: &Store) -> Result<(CreateCommand, UpdateCommand)> {
    let create = commands::create()?;
    store.create(&create).await?;
    let edit = Update::Edit {
        content: "second".to_owned().try_into()?,
        edit_timestamp: create.publish_timestamp.next_millisecond(),
        seen: None,
    };
    let edit = command(create.message_id, edit);
    store.update(&edit).await?;
    Ok((create, edit))
}

fn change(create: &CreateCommand, kind: ChangeKind, version: Version) -> Change {
    Change {
        kind,
        message_id: create.message_id,
        version,
        from_user_id: create.from_user_id.clone(),
        to_user_id: create.to_user_id.clone(),
    }
}

#[tokio::test]
async fn a_message_and_its_tombstone_tell_each_change_and_its_users() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    let (create, edit) = edited(&store).await?;
    let id = create.message_id;
    let delete = command(id, Update::Delete);
    let asked = [create.command_id, edit.command_id, delete.command_id, CommandId::generate()]
        .map(|command| (command, id));
    let remembered = store.remembered_changes(&asked).await?;
    let created = change(&create, ChangeKind::Created, 1);
    assert_eq!(remembered.get(&create.command_id), Some(&created));
    let edited = change(&create, ChangeKind::Edited, 2);
    assert_eq!(remembered.get(&edit.command_id), Some(&edited));
    assert_eq!(remembered.len(), 2);

    store.update(&delete).await?;
    let remembered = store.remembered_changes(&asked).await?;
    assert_eq!(remembered.get(&create.command_id), Some(&created));
    assert_eq!(remembered.get(&edit.command_id), Some(&edited));
    let deleted = change(&create, ChangeKind::Deleted, 3);
    assert_eq!(remembered.get(&delete.command_id), Some(&deleted));
    assert_eq!(remembered.len(), 3);

    // Of a message that does not exist there is nothing to tell.
    let nobody = (create.command_id, MessageId::generate());
    assert!(store.remembered_changes(&[nobody]).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_damaged_document_tells_what_it_can_and_blocks_nothing() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    for (update, tells) in [
        (doc! { "$set": { "content": 7 } }, true),
        (doc! { "$set": { "from_user_id": 7 } }, false),
        (doc! { "$set": { "applied": 7 } }, false),
        (doc! { "$unset": { "created_by": "" } }, false),
        // A tombstone of release 0.1.
        (
            doc! { "$currentDate": { "deleted_at": true }, "$unset": { "from_user_id": "", "to_user_id": "" } },
            false,
        ),
    ] {
        let (create, edit) = edited(&store).await?;
        let (other, _) = edited(&store).await?;
        documents::change(&env, create.message_id, update.clone()).await?;
        let asked = [(edit.command_id, create.message_id), (other.command_id, other.message_id)];
        let remembered = store.remembered_changes(&asked).await?;
        let expected = tells.then(|| change(&create, ChangeKind::Edited, 2));
        assert_eq!(remembered.get(&edit.command_id), expected.as_ref(), "{update}");
        assert!(remembered.contains_key(&other.command_id), "{update}");
    }
    Ok(())
}
