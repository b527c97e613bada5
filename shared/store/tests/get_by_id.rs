//! Concurrent reads share queries; each must get its own message.

mod common;

use anyhow::Result;
use contracts::{CommandId, MessageId, Precondition, Timestamp, UserId};
use futures_util::future::try_join_all;
use store::{CreateCommand, Update, UpdateCommand};
use testkit::TestEnvironment;

#[tokio::test]
async fn of_many_reads_at_once_each_finds_its_own_message() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    let mut creates = Vec::new();
    for number in 0..1_000 {
        creates.push(CreateCommand {
            command_id: CommandId::generate(),
            message_id: MessageId::generate(),
            from_user_id: UserId::try_from("alice".to_owned())?,
            to_user_id: UserId::try_from("bob".to_owned())?,
            content: format!("number {number}").try_into()?,
            publish_timestamp: Timestamp::now(),
        });
    }
    store.create_many(&creates).await?;
    let deleted = creates[7].message_id;
    let delete = UpdateCommand {
        command_id: CommandId::generate(),
        message_id: deleted,
        actor: None,
        precondition: Precondition::default(),
        update: Update::Delete,
    };
    store.update(&delete).await?;

    // Twice each, with as many unknown ids between them.
    let twice = creates.iter().chain(&creates);
    let ids: Vec<MessageId> =
        twice.flat_map(|create| [create.message_id, MessageId::generate()]).collect();
    let found = try_join_all(ids.iter().map(|id| store.find(*id))).await?;
    for (index, (id, found)) in ids.iter().zip(found).enumerate() {
        let expected = &creates[index / 2 % creates.len()];
        if index % 2 == 1 || *id == deleted {
            assert_eq!(found, None);
        } else {
            let message = found.map(|found| (found.message.id, found.message.content));
            assert_eq!(message, Some((*id, expected.content.clone())));
        }
    }
    Ok(())
}
