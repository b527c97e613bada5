//! Samples where hardly any message is left.

mod commands;
mod common;

use anyhow::Result;
use contracts::{CommandId, MessageId, Precondition};
use store::{Store, Update, UpdateCommand};
use testkit::TestEnvironment;
use tokio::task::JoinSet;

/// More than the largest sample.
const DELETED: usize = 5_000;

async fn create(store: &Store, count: usize) -> Result<Vec<MessageId>> {
    let commands: Vec<_> = (0..count).map(|_| commands::create()).collect::<Result<_>>()?;
    store.create_many(&commands).await?;
    Ok(commands.iter().map(|command| command.message_id).collect())
}

fn delete(message_id: MessageId) -> UpdateCommand {
    let command_id = CommandId::generate();
    UpdateCommand {
        command_id,
        message_id,
        actor: None,
        precondition: Precondition::default(),
        update: Update::Delete,
    }
}

async fn sample(store: &Store) -> Result<Option<MessageId>> {
    let mut candidates = store.sample().await?.ids;
    Ok(store.next_of(&mut candidates).await?.map(|message| message.id))
}

#[tokio::test]
async fn the_one_message_among_thousands_of_tombstones_is_sampled_and_no_other() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    assert!(sample(&store).await?.is_none());
    let doomed = create(&store, DELETED).await?;
    let mut deletions = JoinSet::new();
    for chunk in doomed.chunks(DELETED / 8) {
        let (store, chunk) = (store.clone(), chunk.to_owned());
        deletions.spawn(async move {
            for message_id in chunk {
                store.update(&delete(message_id)).await?;
            }
            anyhow::Ok(())
        });
    }
    for deleted in deletions.join_all().await {
        deleted?;
    }
    assert!(sample(&store).await?.is_none());
    let kept = create(&store, 1).await?;
    for _ in 0..5 {
        assert_eq!(sample(&store).await?, kept.first().copied());
    }
    Ok(())
}

#[tokio::test]
async fn a_message_deleted_after_the_sample_is_passed_over() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    create(&store, 2).await?;
    let sample = store.sample().await?;
    assert!(sample.of_few);
    let mut candidates = sample.ids.clone();
    assert_eq!(candidates.len(), 2);
    let (left, deleted) = (candidates[0], candidates[1]);
    store.update(&delete(deleted)).await?;
    let found = store.next_of(&mut candidates).await?.map(|message| message.id);
    assert_eq!(found, Some(left));
    assert!(candidates.is_empty());
    store.update(&delete(left)).await?;
    assert!(store.next_of(&mut sample.ids.clone()).await?.is_none());
    Ok(())
}

#[tokio::test]
async fn a_sample_of_more_than_it_holds_is_not_of_few() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    create(&store, 500).await?;
    let sample = store.sample().await?;
    assert!(!sample.of_few && sample.ids.len() > 8, "{sample:?}");
    Ok(())
}
