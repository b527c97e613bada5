//! Deliveries that came back so often that one of their commands may have killed a worker. Their
//! commands are applied one at a time, each attempt recorded before it begins.

use std::{pin::pin, slice};

use contracts::CommandId;
use store::AttemptId;

use crate::{
    apply::{AllApplied, apply_until_done, recorded_outcomes},
    command_store::CommandStore,
    delivery_group::ReceivedCommand,
    retry::{Abandoned, Retry},
};

/// Maximum number of attempts at a command that kills its worker each time.
const MAX_ATTEMPTS: u32 = 2;

/// Applies commands one at a time. A command is poison once [`MAX_ATTEMPTS`] attempts ended with the
/// death of their worker. A command that ended before is not tried, and above all not dead-lettered
/// again: only its ack was lost.
pub(crate) async fn apply_one_by_one<'a>(
    store: &impl CommandStore,
    retry: &Retry,
    commands: &'a [ReceivedCommand],
) -> Result<AllApplied<'a>, Abandoned> {
    let mut applied = Vec::with_capacity(commands.len());
    let mut survived: Vec<CommandId> = Vec::with_capacity(commands.len());
    let reading = async |after_failure| recorded_outcomes(store, commands, after_failure).await;
    let recorded = retry.until_done("failed to read recorded outcomes", reading).await?;
    for received in commands {
        let (id, attempt) = (received.id(), AttemptId::generate());
        if let Some(recorded) = recorded.get(&id) {
            applied.push((received, Ok(recorded.outcome())));
            survived.push(id);
            continue;
        }
        let recording = async |_| store.store().record_attempt(id, attempt).await;
        let attempts = retry.until_done("failed to record delivery attempt", recording).await?;
        if attempts > MAX_ATTEMPTS {
            let reason = format!("each of {MAX_ATTEMPTS} attempts to apply it killed a worker");
            applied.push((received, Err(reason)));
            continue;
        }
        applied.extend(attempt_once(store, retry, received, attempt).await?);
        if attempts > 0 {
            // At once: the next command may kill this worker, and its death must not count here.
            let recording = async |_| store.store().record_success(id).await;
            retry.until_done("failed to record a successful attempt", recording).await?;
        }
        survived.push(id);
    }
    let clearing = async |_| store.store().clear_delivery_attempts(&survived).await;
    retry.until_done("failed to clear delivery attempts", clearing).await?;
    Ok(applied)
}

/// Applies one command. Once MongoDB fails, the attempt does not count any more: it lasts as long as the
/// outage, and what kills workers meanwhile is something else.
async fn attempt_once<'a>(
    store: &impl CommandStore,
    retry: &Retry,
    received: &'a ReceivedCommand,
    attempt: AttemptId,
) -> Result<AllApplied<'a>, Abandoned> {
    let mut applying = pin!(apply_until_done(store, retry, slice::from_ref(received)));
    tokio::select! {
        applied = applying.as_mut() => return applied,
        () = retry.failed() => {}
    }
    let withdraw = async |_| store.store().withdraw_attempt(received.id(), attempt).await;
    let withdrawing = async {
        retry.until_done("failed to withdraw a delivery attempt", withdraw).await?;
        received.log_span().in_scope(|| {
            tracing::info!("MongoDB unavailable; delivery attempt not counted");
        });
        Ok(())
    };
    let (applied, ()) = tokio::try_join!(applying, withdrawing)?;
    Ok(applied)
}
