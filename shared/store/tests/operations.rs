//! The state of an operation.

mod common;

use anyhow::Result;
use contracts::{CommandId, Failure, MessageId, OperationId, Timestamp, UserId};
use store::{CreateCommand, OperationState, RecordedOutcome};
use testkit::TestEnvironment;

#[tokio::test]
async fn a_command_that_took_effect_has_succeeded_though_it_was_dead_lettered_before() -> Result<()>
{
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    let (command_id, message_id) = (CommandId::generate(), MessageId::generate());
    let operation = OperationId { command_id, message_id };
    // The worker that dead-lettered it records that late: another one has already applied the replay.
    let dead = Failure::DeadLettered;
    store.record_outcomes(&[(command_id, message_id, RecordedOutcome::Failed(dead))]).await?;
    assert_eq!(store.operation(operation).await?, OperationState::Failed(dead));
    let create = CreateCommand {
        command_id,
        message_id,
        from_user_id: UserId::try_from("alice".to_owned())?,
        to_user_id: UserId::try_from("bob".to_owned())?,
        content: "hello".to_owned().try_into()?,
        publish_timestamp: Timestamp::now(),
    };
    store.create_many(&[create]).await?;
    assert_eq!(store.operation(operation).await?, OperationState::Succeeded);
    Ok(())
}
