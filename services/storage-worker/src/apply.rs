//! Applying a batch: as few operations as possible, commands for one message in delivery order,
//! different messages at the same time. Nothing here acks; applying a batch twice is harmless.

use std::{collections::HashMap, iter, panic::AssertUnwindSafe};

use contracts::{Action, CommandId, MessageId, Outcome, Payload};
use futures_util::{FutureExt, StreamExt, TryStreamExt, future, stream};
use store::{
    CreateCommand, DeleteCommand, EditCommand, RecordedOutcome, Rejected, StoreError, UpdateCommand,
};

use crate::{
    batch::ReceivedCommand,
    command_store::CommandStore,
    spans::{Operation, Writing},
};

/// Messages changed at the same time.
const MAX_CONCURRENT_MESSAGES: usize = 32;

/// What became of a command.
#[derive(Clone, Debug)]
pub(crate) enum Applied {
    /// Its result.
    Done(Outcome),
    /// It had ended before, and what it met then can't be told any more: there is no answer, and
    /// its client reads the outcome off the store.
    DoneBefore,
    /// It can't be applied, for this reason, however often it is tried.
    Impossible(String),
}

impl From<RecordedOutcome> for Applied {
    fn from(ending: RecordedOutcome) -> Self {
        match ending {
            RecordedOutcome::Failed(failure) => Self::Done(Outcome::Failed(failure)),
            RecordedOutcome::Replayed | RecordedOutcome::Superseded | RecordedOutcome::Unknown => {
                Self::DoneBefore
            }
        }
    }
}

/// Who may have had the commands before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Redelivery {
    /// Only those that the broker calls redelivered were in other hands.
    Flagged,
    /// Any of them may have been in other hands since.
    Possible,
}

/// The commands for one message, in delivery order, by their place in the batch.
type Chain = Vec<usize>;

/// Applies all commands. The results stand in the commands' order.
pub(crate) async fn apply(
    store: &impl CommandStore,
    commands: &[ReceivedCommand],
    delivered: Redelivery,
) -> Result<Vec<Applied>, StoreError> {
    let ended_before = ended_before(store, commands, delivered).await?;
    let mut by_message: HashMap<MessageId, Chain> = HashMap::new();
    for (index, received) in commands.iter().enumerate() {
        if !ended_before.contains_key(&received.id()) {
            by_message.entry(received.command.message_id()).or_default().push(index);
        }
    }
    let (created, changed): (Vec<Chain>, Vec<Chain>) =
        by_message.into_values().partition(|chain| starts_with_create(commands, chain));
    let (created, changed) = future::try_join(
        create_then_change(store, commands, created),
        change(store, commands, changed),
    )
    .await?;
    let mut results: HashMap<usize, Applied> = created.into_iter().chain(changed).collect();
    let in_order = commands.iter().enumerate().map(|(index, received)| {
        match ended_before.get(&received.id()) {
            Some(ending) => Ok(Applied::from(*ending)),
            None => results.remove(&index).ok_or(StoreError::MissingResult),
        }
    });
    in_order.collect()
}

/// How commands have ended that were in other hands, as far as that is recorded. Only those can have
/// ended before.
pub(crate) async fn ended_before(
    store: &impl CommandStore,
    commands: &[ReceivedCommand],
    delivered: Redelivery,
) -> Result<HashMap<CommandId, RecordedOutcome>, StoreError> {
    let in_other_hands = commands
        .iter()
        .filter(|received| received.redelivered || delivered == Redelivery::Possible);
    let ids: Vec<CommandId> = in_other_hands.map(ReceivedCommand::id).collect();
    let mut recorded = store.recorded_outcomes(&ids).await?;
    for received in commands {
        if recorded.get(&received.id()).is_some_and(|ending| !received.stands(*ending)) {
            recorded.remove(&received.id());
        }
    }
    Ok(recorded)
}

fn starts_with_create(commands: &[ReceivedCommand], chain: &Chain) -> bool {
    let first = chain.first().and_then(|&index| commands.get(index));
    first.is_some_and(|received| matches!(action(received), Action::Create { .. }))
}

/// Runs chains that start with a create: all creates in one operation, then the rest of each.
async fn create_then_change(
    store: &impl CommandStore,
    commands: &[ReceivedCommand],
    chains: Vec<Chain>,
) -> Result<Vec<(usize, Applied)>, StoreError> {
    let heads: Vec<usize> = chains.iter().filter_map(|chain| chain.first().copied()).collect();
    let creates: Vec<CreateCommand> =
        heads.iter().filter_map(|&index| create_command(commands.get(index)?)).collect();
    let mut results = Vec::with_capacity(heads.len());
    if !creates.is_empty() {
        let writing = Writing::begin(Operation::Insert, pick(commands, &heads));
        let creating = writing.time(store.create_many(&creates));
        match AssertUnwindSafe(creating).catch_unwind().await {
            Ok(Ok(outcomes)) => {
                results.extend(heads.into_iter().zip(outcomes.into_iter().map(applied)));
            }
            Ok(Err(error)) if !error.is_permanent() => return Err(error),
            // One of them is to blame; alone, that one takes no other with it.
            Ok(Err(_)) | Err(_) => {
                let alone = heads.into_iter().map(|head| vec![head]).collect();
                results.extend(change(store, commands, alone).await?);
            }
        }
    }
    let rest = chains.into_iter().map(|mut chain| chain.split_off(1));
    results.extend(change(store, commands, rest.collect()).await?);
    Ok(results)
}

/// Runs each chain in order: the first command of each, then the second of each, and so on.
async fn change(
    store: &impl CommandStore,
    commands: &[ReceivedCommand],
    chains: Vec<Chain>,
) -> Result<Vec<(usize, Applied)>, StoreError> {
    let longest = chains.iter().map(Vec::len).max().unwrap_or_default();
    let mut results = Vec::new();
    for step in 0..longest {
        let round: Vec<usize> =
            chains.iter().filter_map(|chain| chain.get(step).copied()).collect();
        results.extend(change_round(store, commands, &round).await?);
    }
    Ok(results)
}

/// Applies commands for different messages: edits and deletions together, and one at a time what
/// can't be done that way.
async fn change_round(
    store: &impl CommandStore,
    commands: &[ReceivedCommand],
    round: &[usize],
) -> Result<Vec<(usize, Applied)>, StoreError> {
    let mut results = Vec::with_capacity(round.len());
    let mut alone = Vec::new();
    let (mut places, mut changes) = (Vec::new(), Vec::new());
    for &index in round {
        match commands.get(index).and_then(change_command) {
            Some(change) => {
                places.push(index);
                changes.push(change);
            }
            None => alone.push(index),
        }
    }
    if changes.len() < 2 {
        alone.append(&mut places);
    } else {
        let writing = Writing::begin(Operation::Update, pick(commands, &places));
        let changing = writing.time(store.bulk_write(&changes));
        match AssertUnwindSafe(changing).catch_unwind().await {
            Ok(Ok(outcomes)) => {
                for (index, result) in places.into_iter().zip(outcomes) {
                    match result {
                        Some(result) => results.push((index, Applied::Done(result))),
                        None => alone.push(index),
                    }
                }
            }
            Ok(Err(error)) if !error.is_permanent() => return Err(error),
            // One of them is to blame; alone, that one takes no other with it.
            Ok(Err(_)) | Err(_) => alone.append(&mut places),
        }
    }
    let one_by_one = alone.into_iter().filter_map(|index| {
        let received = commands.get(index)?;
        Some(async move { Ok::<_, StoreError>((index, apply_alone(store, received).await?)) })
    });
    let done: Vec<(usize, Applied)> =
        stream::iter(one_by_one).buffer_unordered(MAX_CONCURRENT_MESSAGES).try_collect().await?;
    results.extend(done);
    Ok(results)
}

/// The commands at these places.
fn pick<'a>(
    commands: &'a [ReceivedCommand],
    places: &'a [usize],
) -> impl Iterator<Item = &'a ReceivedCommand> {
    places.iter().filter_map(|&index| commands.get(index))
}

/// Applies one command. If that panics, or can't ever be done, it is this command's fault.
async fn apply_alone(
    store: &impl CommandStore,
    received: &ReceivedCommand,
) -> Result<Applied, StoreError> {
    match AssertUnwindSafe(apply_one(store, received)).catch_unwind().await {
        Ok(Err(error)) if error.is_permanent() => Ok(Applied::Impossible(error.to_string())),
        Ok(applied) => applied,
        Err(payload) => {
            let what = service::panic_message(payload.as_ref());
            Ok(Applied::Impossible(format!("applying it panicked: {what}")))
        }
    }
}

async fn apply_one(
    store: &impl CommandStore,
    received: &ReceivedCommand,
) -> Result<Applied, StoreError> {
    match action(received) {
        Action::Create { .. } => {
            let creates: Vec<CreateCommand> = create_command(received).into_iter().collect();
            let writing = Writing::begin(Operation::Insert, iter::once(received));
            let results = writing.time(store.create_many(&creates)).await?;
            results.into_iter().next().map(applied).ok_or(StoreError::MissingResult)
        }
        Action::Edit { .. } | Action::Delete { .. } => {
            let change = change_command(received).ok_or(StoreError::MissingResult)?;
            let writing = Writing::begin(Operation::Update, iter::once(received));
            let result = match change {
                UpdateCommand::Edit(edit) => writing.time(store.edit(&edit)).await?,
                UpdateCommand::Delete(delete) => writing.time(store.delete(&delete)).await?,
            };
            Ok(Applied::Done(result))
        }
    }
}

fn applied(created: Result<Outcome, Rejected>) -> Applied {
    match created {
        Ok(result) => Applied::Done(result),
        Err(rejected) => Applied::Impossible(rejected.to_string()),
    }
}

fn action(received: &ReceivedCommand) -> &Action {
    let Payload::Message(message) = &received.command.payload;
    &message.action
}

fn create_command(received: &ReceivedCommand) -> Option<CreateCommand> {
    let command = &received.command;
    let Action::Create { from_user_id, to_user_id, content } = action(received) else {
        return None;
    };
    Some(CreateCommand {
        command_id: command.id,
        message_id: command.message_id(),
        from_user_id: from_user_id.clone(),
        to_user_id: to_user_id.clone(),
        content: content.clone(),
        publish_timestamp: command.issued_at,
    })
}

fn change_command(received: &ReceivedCommand) -> Option<UpdateCommand> {
    let (command_id, message_id) = (received.id(), received.command.message_id());
    match action(received) {
        Action::Create { .. } => None,
        Action::Edit { content, edit_timestamp, if_match } => {
            Some(UpdateCommand::Edit(EditCommand {
                command_id,
                message_id,
                content: content.clone(),
                edit_timestamp: *edit_timestamp,
                if_match: *if_match,
            }))
        }
        Action::Delete { if_match } => {
            let if_match = *if_match;
            Some(UpdateCommand::Delete(DeleteCommand { command_id, message_id, if_match }))
        }
    }
}
