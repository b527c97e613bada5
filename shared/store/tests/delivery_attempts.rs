//! Delivery attempts of a command that may have killed a worker.

mod common;

use anyhow::Result;
use contracts::CommandId;
use store::AttemptId;
use testkit::TestEnvironment;

#[tokio::test]
async fn an_attempt_counts_once_however_often_it_is_recorded() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    let command = CommandId::generate();
    for attempt in 1..=3 {
        let id = AttemptId::generate();
        // The responses to the first calls were lost in an outage.
        for _ in 0..4 {
            assert_eq!(store.record_attempt(command, id).await?, attempt);
        }
    }
    assert_eq!(store.record_attempt(CommandId::generate(), AttemptId::generate()).await?, 1);
    store.clear_delivery_attempts(&[command]).await?;
    assert_eq!(store.record_attempt(command, AttemptId::generate()).await?, 1);
    Ok(())
}

#[tokio::test]
async fn an_attempt_that_was_withdrawn_does_not_count() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    let command = CommandId::generate();
    let first = AttemptId::generate();
    assert_eq!(store.record_attempt(command, first).await?, 1);
    let second = AttemptId::generate();
    assert_eq!(store.record_attempt(command, second).await?, 2);
    for _ in 0..2 {
        store.withdraw_attempt(command, second).await?;
    }
    assert_eq!(store.record_attempt(command, AttemptId::generate()).await?, 2);
    Ok(())
}

#[tokio::test]
async fn a_command_that_survived_an_attempt_is_not_counted_any_more() -> Result<()> {
    let env = TestEnvironment::new().await;
    let store = common::open(&env).await?;
    let (harmless, untried) = (CommandId::generate(), CommandId::generate());
    assert_eq!(store.record_attempt(harmless, AttemptId::generate()).await?, 1);
    store.record_success(harmless).await?;
    store.record_success(untried).await?;
    // Its delivery comes again and again, because of another command.
    for _ in 0..3 {
        assert_eq!(store.record_attempt(harmless, AttemptId::generate()).await?, 0);
    }
    assert_eq!(store.record_attempt(untried, AttemptId::generate()).await?, 1);
    Ok(())
}
