//! Recording the outcomes that the messages themselves do not remember.

use std::collections::HashMap;

use contracts::{CommandId, Failure, MessageId, Outcome};
use store::{RecordedOutcome, Store};

use crate::{
    delivery_group::ReceivedCommand,
    retry::{Abandoned, Retry},
};

/// A command with its outcome.
pub(crate) type Ended<'a> = (&'a ReceivedCommand, Outcome);

/// Records outcomes, and returns those to reply with. The first recorded outcome of a command stands.
pub(crate) async fn record<'a>(
    store: &Store,
    retry: &Retry,
    ended: Vec<Ended<'a>>,
) -> Result<Vec<Ended<'a>>, Abandoned> {
    forget_dead_lettered(store, retry, &ended).await?;
    let new: Vec<(CommandId, MessageId, RecordedOutcome)> = ended
        .iter()
        .filter_map(|(received, outcome)| {
            let outcome = RecordedOutcome::of(outcome)?;
            Some((received.id(), received.command.message_id(), outcome))
        })
        .collect();
    let recording = async |_| store.record_outcomes(&new).await;
    let recorded: HashMap<CommandId, RecordedOutcome> =
        retry.until_done("failed to record outcomes", recording).await?;
    let standing = ended.into_iter().filter_map(|(received, outcome)| {
        let recorded = recorded.get(&received.id()).copied();
        Some((received, standing_outcome(received, outcome, recorded)?))
    });
    Ok(standing.collect())
}

/// Returns the outcome to reply with; `None` if another success is recorded, of which the record does
/// not hold all.
fn standing_outcome(
    received: &ReceivedCommand,
    outcome: Outcome,
    recorded: Option<RecordedOutcome>,
) -> Option<Outcome> {
    let new = RecordedOutcome::of(&outcome);
    match recorded {
        Some(recorded) if !received.accepts(recorded) => Some(outcome),
        Some(RecordedOutcome::Failed(failure)) if new.is_some() => Some(Outcome::Failed(failure)),
        _ if recorded == new => Some(outcome),
        _ => None,
    }
}

/// Deletes the records of replayed commands that they were dead-lettered, if they are not again.
async fn forget_dead_lettered(
    store: &Store,
    retry: &Retry,
    ended: &[Ended<'_>],
) -> Result<(), Abandoned> {
    let revived: Vec<CommandId> = ended
        .iter()
        .filter(|(received, outcome)| {
            received.replayed && *outcome != Outcome::Failed(Failure::DeadLettered)
        })
        .map(|(received, _)| received.id())
        .collect();
    if revived.is_empty() {
        return Ok(());
    }
    let forgetting = async |_| store.forget_dead_lettered(&revived).await;
    retry.until_done("failed to delete the record of a dead letter", forgetting).await
}
