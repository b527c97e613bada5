//! The state of an operation.

mod commands;
mod common;
mod documents;

use anyhow::Result;
use contracts::{
    CommandId, Failure, MessageId, OperationId, Outcome, Precondition, Timestamp, UserId,
};
use mongodb::bson::doc;
use store::{CreateCommand, OperationState, RecordedOutcome, Update, UpdateCommand};
use testkit::TestEnvironment;

#[tokio::test]
async fn a_command_that_took_effect_has_succeeded_though_it_was_dead_lettered_before() -> Result<()>
{
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    let (command_id, message_id) = (CommandId::generate(), MessageId::generate());
    let operation = OperationId::new(command_id, message_id);
    // The worker that dead-lettered it records that late: another one has already applied the replay.
    let dead = Failure::DeadLettered;
    store.record_outcomes(&[(command_id, message_id, RecordedOutcome::Failed(dead))]).await?;
    assert_eq!(store.operation(operation, None).await?, OperationState::Failed(dead));
    let create = CreateCommand { command_id, message_id, ..commands::create()? };
    store.create_many(&[create]).await?;
    assert_eq!(store.operation(operation, None).await?, OperationState::Succeeded);
    Ok(())
}

#[tokio::test]
async fn a_pending_operation_tells_a_user_nothing_of_a_message_of_another() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    let create = commands::create()?;
    let message_id = create.message_id;
    store.create(&create).await?;
    let pending = OperationId::new(CommandId::generate(), message_id);
    // So many that the message does not remember an earlier one.
    for number in 0..33 {
        let content = format!("edit {number}").try_into()?;
        let edit_timestamp = Timestamp::from_unix_millis(Timestamp::now().unix_millis() + number)?;
        let edit = UpdateCommand {
            command_id: CommandId::generate(),
            message_id,
            actor: None,
            precondition: Precondition::version(u64::try_from(number)? + 1),
            update: Update::Edit { content, edit_timestamp, seen: None },
        };
        assert!(matches!(store.update(&edit).await?, Outcome::Edited(_)), "{number}");
    }
    let state = async |user: Option<&str>| {
        let user = user.map(|name| UserId::try_from(name.to_owned())).transpose()?;
        anyhow::Ok(store.operation(pending, user.as_ref()).await)
    };
    for user in [None, Some("alice")] {
        assert_eq!(state(user).await??, OperationState::Succeeded, "{user:?}");
    }
    for user in ["bob", "mallory"] {
        assert_eq!(state(Some(user)).await??, OperationState::Pending, "{user}");
    }
    documents::change(&env, message_id, doc! { "$set": { "content": 7 } }).await?;
    for user in [None, Some("alice")] {
        assert!(state(user).await?.is_err(), "{user:?}");
    }
    for user in ["bob", "mallory"] {
        assert_eq!(state(Some(user)).await??, OperationState::Pending, "{user}");
    }
    Ok(())
}
