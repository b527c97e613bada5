//! What is drawn where hardly anything is left.

mod common;

use anyhow::Result;
use contracts::{CommandId, MessageId, Timestamp, UserId};
use store::{CreateCommand, DeleteCommand, Store};
use testkit::TestEnvironment;
use tokio::task::JoinSet;

/// More than the largest pool that is drawn.
const DELETED: usize = 5_000;

async fn create(store: &Store, count: usize) -> Result<Vec<MessageId>> {
    let command = || -> Result<CreateCommand> {
        Ok(CreateCommand {
            command_id: CommandId::generate(),
            message_id: MessageId::generate(),
            from_user_id: UserId::try_from("alice".to_owned())?,
            to_user_id: UserId::try_from("bob".to_owned())?,
            content: "hello".to_owned().try_into()?,
            publish_timestamp: Timestamp::now(),
        })
    };
    let commands: Vec<_> = (0..count).map(|_| command()).collect::<Result<_>>()?;
    store.create_many(&commands).await?;
    Ok(commands.iter().map(|command| command.message_id).collect())
}

async fn draw(store: &Store) -> Result<Option<MessageId>> {
    let drawn = store.sample().await?;
    Ok(store.first_of(&drawn).await?.map(|message| message.id))
}

#[tokio::test]
async fn the_one_message_among_thousands_of_tombstones_is_drawn_and_no_other() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    assert!(draw(&store).await?.is_none());
    let doomed = create(&store, DELETED).await?;
    let mut deletions = JoinSet::new();
    for chunk in doomed.chunks(DELETED / 8) {
        let (store, chunk) = (store.clone(), chunk.to_owned());
        deletions.spawn(async move {
            for message_id in chunk {
                let command_id = CommandId::generate();
                let command = DeleteCommand { command_id, message_id, if_match: None };
                store.delete(&command).await?;
            }
            anyhow::Ok(())
        });
    }
    for deleted in deletions.join_all().await {
        deleted?;
    }
    assert!(draw(&store).await?.is_none());
    let kept = create(&store, 1).await?;
    for _ in 0..5 {
        assert_eq!(draw(&store).await?, kept.first().copied());
    }
    Ok(())
}

#[tokio::test]
async fn what_was_deleted_after_it_was_drawn_is_passed_over() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    create(&store, 2).await?;
    let drawn = store.sample().await?;
    assert_eq!(drawn.len(), 2);
    for (index, &message_id) in drawn.iter().enumerate() {
        let left = store.first_of(&drawn).await?.map(|message| message.id);
        assert_eq!(left, drawn.get(index).copied());
        let command_id = CommandId::generate();
        store.delete(&DeleteCommand { command_id, message_id, if_match: None }).await?;
    }
    assert!(store.first_of(&drawn).await?.is_none());
    Ok(())
}
