//! The state of an operation.

mod commands;
mod common;

use anyhow::Result;
use contracts::{CommandId, Failure, MessageId, OperationId};
use store::{CreateCommand, OperationState, RecordedOutcome};
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
    assert_eq!(store.operation(operation).await?, OperationState::Failed(dead));
    let create = CreateCommand { command_id, message_id, ..commands::create()? };
    store.create_many(&[create]).await?;
    assert_eq!(store.operation(operation).await?, OperationState::Succeeded);
    Ok(())
}
