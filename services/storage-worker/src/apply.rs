//! Applying commands with as few operations as possible: commands for one message in delivery order,
//! those for different messages together. Nothing here acks. Applying a command twice is harmless.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    iter,
    panic::AssertUnwindSafe,
};

use contracts::{Action, Command, CommandId, MessageCommand, MessageId, Outcome, Payload};
use futures_util::{FutureExt, StreamExt, TryStreamExt, future, stream};
use store::{CreateCommand, RecordedOutcome, StoreError, Update, UpdateCommand};
use telemetry::error_chain;

use crate::{
    command_store::CommandStore,
    delivery_group::ReceivedCommand,
    retry::{Abandoned, Retry},
    spans::{Operation, traced},
};

/// Maximum number of commands that are applied one by one at the same time.
const MAX_CONCURRENT_COMMANDS: usize = 32;

/// Outcome of a command, or the reason why it is poison. `None` for a command that ended before, if the
/// record does not hold all of its outcome: there is no reply, and the client reads the operation.
pub(crate) type Applied = Result<Option<Outcome>, String>;

/// Commands with their results, in any order.
pub(crate) type AllApplied<'a> = Vec<(&'a ReceivedCommand, Applied)>;

/// Commands as the store takes them.
type Converted<'a, C> = Vec<(&'a ReceivedCommand, C)>;

/// Applies all commands, however long it takes.
pub(crate) async fn apply_until_done<'a>(
    store: &impl CommandStore,
    retry: &Retry,
    commands: &'a [ReceivedCommand],
) -> Result<AllApplied<'a>, Abandoned> {
    let applying = async |after_failure| apply(store, commands, after_failure).await;
    retry.until_done("failed to apply commands", applying).await
}

/// Returns the recorded outcomes of commands that another worker may have applied before: those that
/// the broker flags as redelivered. After a failure it may be any of them, since the broker may have
/// given them to another worker meanwhile.
pub(crate) async fn recorded_outcomes(
    store: &impl CommandStore,
    commands: &[ReceivedCommand],
    after_failure: bool,
) -> Result<HashMap<CommandId, RecordedOutcome>, StoreError> {
    let redelivered = commands.iter().filter(|received| received.redelivered || after_failure);
    let ids = redelivered.map(ReceivedCommand::id);
    let mut recorded = store.store().recorded_outcomes(ids).await?;
    for received in commands {
        if recorded.get(&received.id()).is_some_and(|recorded| !received.accepts(*recorded)) {
            recorded.remove(&received.id());
        }
    }
    Ok(recorded)
}

async fn apply<'a>(
    store: &impl CommandStore,
    commands: &'a [ReceivedCommand],
    after_failure: bool,
) -> Result<AllApplied<'a>, StoreError> {
    let recorded = recorded_outcomes(store, commands, after_failure).await?;
    let mut applied = Vec::with_capacity(commands.len());
    let mut by_message: BTreeMap<MessageId, VecDeque<&ReceivedCommand>> = BTreeMap::new();
    for received in commands {
        match recorded.get(&received.id()) {
            Some(recorded) => applied.push((received, Ok(recorded.outcome()))),
            None => {
                by_message.entry(received.command.message_id()).or_default().push_back(received);
            }
        }
    }
    // Each round applies the next command of every message.
    while !by_message.is_empty() {
        let next = by_message.values_mut().filter_map(VecDeque::pop_front);
        let (creates, updates) = creates_and_updates(next);
        by_message.retain(|_, commands| !commands.is_empty());
        let (inserted, changed) = future::try_join(
            apply_together(
                Operation::Insert,
                creates,
                async |creates: &[CreateCommand]| store.create_many(creates).await,
                async |create: &CreateCommand| store.create(create).await,
            ),
            apply_together(
                Operation::Update,
                updates,
                async |updates: &[UpdateCommand]| store.bulk_write(updates).await,
                async |update: &UpdateCommand| store.update(update).await,
            ),
        )
        .await?;
        applied.extend(inserted);
        applied.extend(changed);
    }
    Ok(applied)
}

/// Applies commands for different messages: all together, then one by one those that have no outcome.
async fn apply_together<'a, C>(
    operation: Operation,
    commands: Converted<'a, C>,
    apply_all: impl AsyncFn(&[C]) -> Result<Vec<Option<Outcome>>, StoreError>,
    apply_one: impl AsyncFn(&C) -> Result<Outcome, StoreError>,
) -> Result<AllApplied<'a>, StoreError> {
    let (received, commands): (Vec<&ReceivedCommand>, Vec<C>) = commands.into_iter().unzip();
    let mut outcomes = Vec::new();
    if commands.len() > 1 {
        let contexts = received.iter().map(|received| received.trace_context.as_ref());
        let applying = traced(operation, contexts, apply_all(&commands));
        // A command that makes all of them fail is told from the others by applying each alone.
        outcomes = poison_apart(applying).await?.unwrap_or_default();
    }
    let mut outcomes = outcomes.into_iter();
    let (mut applied, mut alone) = (Vec::with_capacity(received.len()), Vec::new());
    for (received, command) in received.into_iter().zip(commands) {
        match outcomes.next().flatten() {
            Some(outcome) => applied.push((received, Ok(Some(outcome)))),
            None => alone.push((received, command)),
        }
    }
    let apply_one = &apply_one;
    let applying = alone.into_iter().map(|(received, command)| async move {
        let context = iter::once(received.trace_context.as_ref());
        let applying = traced(operation, context, apply_one(&command));
        Ok::<_, StoreError>((received, poison_apart(applying).await?.map(Some)))
    });
    let others: AllApplied<'_> =
        stream::iter(applying).buffer_unordered(MAX_CONCURRENT_COMMANDS).try_collect().await?;
    applied.extend(others);
    Ok(applied)
}

/// Separates errors that are a command's own fault, panics among them, from those worth a retry.
async fn poison_apart<T>(
    applying: impl Future<Output = Result<T, StoreError>>,
) -> Result<Result<T, String>, StoreError> {
    match AssertUnwindSafe(applying).catch_unwind().await {
        Ok(Ok(done)) => Ok(Ok(done)),
        Ok(Err(error)) if error.is_permanent() => Ok(Err(error_chain(&error).to_string())),
        Ok(Err(error)) => Err(error),
        Err(payload) => {
            let message = service::panic_message(payload.as_ref());
            Ok(Err(format!("applying it panicked: {message}")))
        }
    }
}

fn creates_and_updates<'a>(
    commands: impl Iterator<Item = &'a ReceivedCommand>,
) -> (Converted<'a, CreateCommand>, Converted<'a, UpdateCommand>) {
    let (mut creates, mut updates) = (Vec::new(), Vec::new());
    for received in commands {
        let Command { id: command_id, issued_at, actor, payload } = &received.command;
        let Payload::Message(MessageCommand { message_id, action }) = payload;
        let (command_id, message_id) = (*command_id, *message_id);
        let (update, precondition) = match action.clone() {
            Action::Create { from_user_id, to_user_id, content } => {
                let create = CreateCommand {
                    command_id,
                    message_id,
                    from_user_id,
                    to_user_id,
                    content,
                    publish_timestamp: *issued_at,
                };
                creates.push((received, create));
                continue;
            }
            Action::Edit { content, edit_timestamp, precondition, seen } => {
                (Update::Edit { content, edit_timestamp, seen }, precondition)
            }
            Action::Delete { precondition } => (Update::Delete, precondition),
        };
        let actor = actor.clone();
        let update = UpdateCommand { command_id, message_id, actor, precondition, update };
        updates.push((received, update));
    }
    (creates, updates)
}
