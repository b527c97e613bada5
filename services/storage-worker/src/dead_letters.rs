//! `storage-worker dead-letters …`: an operator's tool for dead letters.

use std::{fmt::Write, pin::pin};

use anyhow::{Context, bail};
use broker::{BrokerConfig, DeadLetterQueue, FetchedDeadLetter};
use clap::{Args, Subcommand};
use contracts::{Command, CommandId};
use futures_util::{Stream, StreamExt, TryStreamExt, future, stream};
use store::{Store, StoreConfig, StoreSettings};

/// Maximum length of a reason in a line of output, in characters.
const MAX_REASON_CHARACTERS: usize = 120;

/// Actions on dead letters.
#[derive(Subcommand, Clone, Debug)]
pub enum DeadLettersCommand {
    /// Lists dead letters, oldest first
    List {
        /// Maximum number of dead letters to list
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        /// Number of dead letters to skip first
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100_000))]
        skip: u32,
    },
    /// Shows one dead letter with its body
    Show {
        /// Id of the dead letter, from `list`
        id: String,
    },
    /// Puts dead letters back into the queue of commands
    ///
    /// A command that already took effect does not take effect again.
    Replay(Selection),
    /// Deletes dead letters
    Purge(Selection),
}

/// A choice of dead letters.
#[derive(Args, Clone, Debug)]
pub struct Selection {
    /// Ids of the dead letters, from `list`
    #[arg(required_unless_present = "all")]
    ids: Vec<String>,
    /// Selects all dead letters that are in the queue now
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    /// Prints what would be done, without doing it
    #[arg(long)]
    dry_run: bool,
}

/// Runs one action.
pub(crate) async fn run(
    broker: &BrokerConfig,
    store: &StoreConfig,
    command: &DeadLettersCommand,
) -> anyhow::Result<()> {
    let queue = DeadLetterQueue::open(broker.url.clone())
        .await
        .with_context(|| format!("cannot open messages.dead on {:?}", broker.url))?;
    let done = match command {
        DeadLettersCommand::List { limit, skip } => list(&queue, *limit, *skip).await,
        DeadLettersCommand::Show { id } => show(&queue, id).await,
        DeadLettersCommand::Replay(selection) => replay(store, &queue, selection).await,
        DeadLettersCommand::Purge(selection) => purge(&queue, selection).await,
    };
    // Also after a failure: closing returns the fetched dead letters to the queue.
    let closed = queue.close().await;
    done.and(closed.map_err(Into::into))
}

async fn list(queue: &DeadLetterQueue, limit: u32, skip: u32) -> anyhow::Result<()> {
    let count = queue.count().await?;
    let mut shown = 0;
    for position in 0..skip.saturating_add(limit) {
        let Some(dead_letter) = queue.fetch().await? else { break };
        if position < skip {
            continue;
        }
        if shown == 0 {
            println!("{:36}  {:24}  {:16}  REASON", "ID", "DEAD-LETTERED AT", "BY");
        }
        shown += 1;
        let FetchedDeadLetter { id, dead_lettered_at, dead_lettered_by, reason, .. } = &dead_letter;
        println!("{id:36}  {dead_lettered_at:24}  {dead_lettered_by:16}  {}", one_line(reason));
    }
    println!("{shown} of {count} shown");
    Ok(())
}

async fn show(queue: &DeadLetterQueue, id: &str) -> anyhow::Result<()> {
    let all = fetch(queue, queue.count().await?);
    let mut found = pin!(all.try_filter(|dead_letter| future::ready(dead_letter.id == id)));
    let Some(dead_letter) = found.try_next().await? else {
        bail!("no dead letter has the id {id}")
    };
    println!("id:               {}", dead_letter.id);
    println!("dead-lettered at: {}", dead_letter.dead_lettered_at);
    println!("dead-lettered by: {}", dead_letter.dead_lettered_by);
    println!("reason:           {}", dead_letter.reason);
    println!("body:             {} bytes", dead_letter.body.len());
    println!("{}", readable(&dead_letter.body));
    Ok(())
}

async fn replay(
    config: &StoreConfig,
    queue: &DeadLetterQueue,
    selection: &Selection,
) -> anyhow::Result<()> {
    let settings = StoreSettings::new(config.clone(), "dead-letters");
    let store =
        Store::new(StoreSettings { max_connections: 1, ..settings }).await.context("MONGO_URI")?;
    let mut dead_letters = pin!(select(queue, selection).await?);
    while let Some(dead_letter) = dead_letters.try_next().await? {
        let id = dead_letter.id.clone();
        if selection.dry_run {
            println!("would replay {id}: {}", one_line(&dead_letter.reason));
            continue;
        }
        // First: a worker would take the record for the outcome, and not apply the command again.
        let commands = command_ids(&dead_letter.body);
        store.forget_dead_lettered(&commands).await.context("cannot write to MongoDB")?;
        queue.replay(dead_letter).await.with_context(|| format!("cannot replay {id}"))?;
        println!("replayed {id}");
    }
    Ok(())
}

async fn purge(queue: &DeadLetterQueue, selection: &Selection) -> anyhow::Result<()> {
    let mut dead_letters = pin!(select(queue, selection).await?);
    while let Some(dead_letter) = dead_letters.try_next().await? {
        let id = dead_letter.id.clone();
        if selection.dry_run {
            println!("would purge {id}: {}", one_line(&dead_letter.reason));
            continue;
        }
        queue.purge(dead_letter).await.with_context(|| format!("cannot purge {id}"))?;
        println!("purged {id}");
    }
    Ok(())
}

/// Fetches dead letters one after the other: all together may not fit into memory. The broker keeps a
/// fetched one that is dropped, and returns it to the queue when that is closed.
fn fetch(
    queue: &DeadLetterQueue,
    at_most: u32,
) -> impl Stream<Item = anyhow::Result<FetchedDeadLetter>> {
    stream::try_unfold(at_most, async move |left| {
        let Some(left) = left.checked_sub(1) else { return Ok(None) };
        Ok(queue.fetch().await?.map(|dead_letter| (dead_letter, left)))
    })
}

/// Fetches the selected ones of the dead letters that are in the queue now.
async fn select(
    queue: &DeadLetterQueue,
    selection: &Selection,
) -> anyhow::Result<impl Stream<Item = anyhow::Result<FetchedDeadLetter>>> {
    let all = fetch(queue, queue.count().await?);
    if selection.all {
        return Ok(all.left_stream());
    }
    let is_selected = |dead_letter: &FetchedDeadLetter| selection.ids.contains(&dead_letter.id);
    let chosen: Vec<_> =
        all.try_filter(|dead_letter| future::ready(is_selected(dead_letter))).try_collect().await?;
    for id in &selection.ids {
        if !chosen.iter().any(|dead_letter| dead_letter.id == *id) {
            bail!("no dead letter has the id {id}; nothing was done");
        }
    }
    Ok(stream::iter(chosen).map(Ok).right_stream())
}

/// Returns the ids of the commands that can be read.
pub(crate) fn command_ids(body: &[u8]) -> Vec<CommandId> {
    let commands: Vec<serde_json::Value> = serde_json::from_slice(body).unwrap_or_default();
    let readable = commands.into_iter().filter_map(|command| serde_json::from_value(command).ok());
    readable.map(|command: Command| command.id).collect()
}

/// Returns the body as an operator reads it. A terminal must not act on it.
pub(crate) fn readable(body: &[u8]) -> String {
    match serde_json::from_slice::<serde_json::Value>(body) {
        // serde_json escapes the control characters up to U+001F only. Its own line breaks are the rest.
        Ok(json) => without_controls(&format!("{json:#}")),
        // Other bytes may be anything.
        Err(_) => String::from_utf8_lossy(body).escape_debug().to_string(),
    }
}

/// Escapes control characters except line breaks, as JSON does.
fn without_controls(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' {
            // Writing to a string does not fail.
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

pub(crate) fn one_line(reason: &str) -> String {
    let line: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.chars().count() <= MAX_REASON_CHARACTERS {
        return line;
    }
    line.chars().take(MAX_REASON_CHARACTERS - 1).chain(std::iter::once('…')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_makes_no_terminal_do_anything() {
        let json = readable("[\"a\u{9b}31m\u{7f}\"]".as_bytes());
        assert_eq!(json, "[\n  \"a\\u009b31m\\u007f\"\n]");
        assert_eq!(readable(b"\x1b[31m"), "\\u{1b}[31m");
    }
}
