//! After the faults: drains the queue, follows every 202 to its end, and reads everything that is stored.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use contracts::{Message, MessageId, OperationId};
use futures_util::{StreamExt, stream};
use reqwest::Method;
use testkit::Api;

use crate::{
    checker::{Aftermath, Conversation, Streams, Watch},
    client::{Client, Prefer, operation_status},
    history::{History, Operation, OperationStatus, Request, Response},
    replays::{COMMANDS, Replays},
    system::System,
};

/// Maximum times until the queue is empty, and until an operation has ended after that.
const DRAIN_LIMIT: Duration = Duration::from_mins(2);
const END_LIMIT: Duration = Duration::from_secs(15);
/// Number of looks in a row that must find the queue empty; each takes a third of a second.
const EMPTY_LOOKS: u32 = 6;

/// Time within which a page of a list must come.
const LIST_LIMIT: Duration = Duration::from_secs(16);

/// Requests at the same time.
const CONCURRENCY: usize = 8;

/// Maximum number of dead letters that are read.
const MAX_DEAD_LETTERS: u32 = 10_000;

/// Reads everything. The final reads are part of the history.
pub(crate) async fn settle(
    system: &System,
    history: &std::sync::Arc<History>,
    replays: &Replays,
    watch: Watch,
) -> Result<Aftermath> {
    let left_in_queue = drain(system).await?;
    let mut apis = Vec::new();
    for gateway in &system.gateways {
        apis.push(system.tokens.trusted(gateway.process.api()?, "final"));
    }
    let api = apis.first().context("no gateway")?;
    end_operations(api, history).await;
    let reader =
        Client { name: "final".to_owned(), gateways: apis.clone(), history: history.clone() };
    read_all(&reader).await;
    let mut conversations = Vec::new();
    let pairs: BTreeSet<(String, String)> = history
        .operations()
        .iter()
        .filter_map(|operation| match &operation.request {
            Request::Create { from, to, .. } => Some((from.clone(), to.clone())),
            _ => None,
        })
        .collect();
    for (from, to) in pairs {
        let messages = list(api, &from, &to).await?;
        conversations.push(Conversation { from, to, messages });
    }
    let dead_letters = system.env.management().take("messages.dead", MAX_DEAD_LETTERS).await?;
    Ok(Aftermath {
        conversations,
        left_in_queue,
        dead_letters: dead_letters.into_iter().map(|dead_letter| dead_letter.payload).collect(),
        poison: replays.poison.clone(),
        watch,
        streams: Streams::default(),
    })
}

/// Waits until the queue of commands is empty. Returns the number of deliveries that are left in the end.
async fn drain(system: &System) -> Result<u64> {
    let begun = Instant::now();
    let mut looks_empty = 0;
    loop {
        // A broker may not answer right after its start.
        let depth = system.env.management().queue_depth(COMMANDS).await;
        looks_empty = if matches!(depth, Ok(0)) { looks_empty + 1 } else { 0 };
        match depth {
            // Gateways publish what they still hold in this time.
            Ok(0) if looks_empty == EMPTY_LOOKS => return Ok(0),
            Ok(left) if begun.elapsed() > DRAIN_LIMIT => return Ok(left),
            Err(error) if begun.elapsed() > DRAIN_LIMIT => return Err(error),
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Reads the status of every operation. An operation that had ended must still have the same status.
async fn end_operations(api: &Api, history: &History) {
    let open: Vec<(usize, OperationId, OperationStatus)> = history
        .operations()
        .iter()
        .enumerate()
        .filter_map(|(place, operation)| match &operation.response {
            Response::Accepted { operation, status } => Some((place, *operation, status.clone())),
            _ => None,
        })
        .collect();
    let deadline = Instant::now() + END_LIMIT;
    let asked = stream::iter(open)
        .map(|(place, id, before)| async move { (place, before, ended(api, id, deadline).await) });
    let ended: Vec<(usize, OperationStatus, OperationStatus)> =
        asked.buffer_unordered(CONCURRENCY).collect().await;
    let now = history.now();
    let mut operations = history.operations();
    for (place, before, last) in ended {
        let Some(Operation { response: Response::Accepted { status, .. }, ended, .. }) =
            operations.get_mut(place)
        else {
            continue;
        };
        if before == OperationStatus::Pending {
            *ended = now;
            *status = last;
        } else if before != last {
            *status = OperationStatus::Unexpected(format!(
                "it had ended with {before:?}, and is {last:?} now"
            ));
        }
    }
}

async fn ended(api: &Api, operation: OperationId, deadline: Instant) -> OperationStatus {
    loop {
        let answer = operation_status(api, operation).await;
        match answer {
            Ok(OperationStatus::Pending) | Err(_) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Ok(status) => return status,
            Err(error) => return OperationStatus::Unexpected(format!("{error:#}")),
        }
    }
}

async fn read_all(reader: &Client) {
    let ids: BTreeSet<MessageId> =
        reader.history.operations().iter().filter_map(Operation::message).collect();
    stream::iter(ids)
        .for_each_concurrent(CONCURRENCY, |id| async move {
            reader.ask(0, Request::Read { id }, Prefer::Nothing).await;
        })
        .await;
}

/// Reads all messages of a conversation, page by page.
pub(crate) async fn list(api: &Api, from: &str, to: &str) -> Result<Vec<Message>> {
    let mut path = format!("/api/messages?from_user_id={from}&to_user_id={to}&limit=200");
    let mut messages: Vec<Message> = Vec::new();
    loop {
        let answer = api.send(api.request(Method::GET, &path).timeout(LIST_LIMIT)).await?;
        ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.text);
        messages.extend(answer.json::<Vec<Message>>()?);
        let Some(next) = answer.link("next") else { return Ok(messages) };
        next.clone_into(&mut path);
        if let Some(place) = path.find("/api/") {
            path.drain(..place);
        }
    }
}
