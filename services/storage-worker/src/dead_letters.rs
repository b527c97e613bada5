//! `storage-worker dead-letters …`: what was parked, for an operator.

use std::collections::VecDeque;

use anyhow::{Context, bail};
use broker::{DeadLetterQueue, FetchedDeadLetter};
use clap::{Args, Subcommand};
use contracts::{Command, CommandId};
use store::{Store, StoreSettings};

use crate::config::Config;

/// What to do with parked commands.
#[derive(Subcommand, Clone, Debug)]
pub enum DeadLettersCommand {
    /// Lists what is parked, oldest first
    List {
        /// How many at most
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        /// How many to pass over first
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100_000))]
        skip: u32,
    },
    /// Shows one letter whole
    Show {
        /// The letter's id, as `list` gives it
        id: String,
    },
    /// Puts letters back into the queue of commands and takes them away here
    ///
    /// A command that had its effect has it no second time.
    Replay(Selection),
    /// Takes letters away for good
    Purge(Selection),
}

/// Which letters.
#[derive(Args, Clone, Debug)]
pub struct Selection {
    /// The letters' ids, as `list` gives them
    #[arg(required_unless_present = "all")]
    ids: Vec<String>,
    /// All that are parked now
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    /// Says what would be done, and does nothing
    #[arg(long)]
    dry_run: bool,
}

/// Does it.
pub(crate) async fn run(config: &Config, command: &DeadLettersCommand) -> anyhow::Result<()> {
    let queue = DeadLetterQueue::open(config.broker.url.clone())
        .await
        .context("cannot reach the broker")?;
    let done = match command {
        DeadLettersCommand::List { limit, skip } => list(&queue, *limit, *skip).await,
        DeadLettersCommand::Show { id } => show(&queue, id).await,
        DeadLettersCommand::Replay(selection) => replay(config, &queue, selection).await,
        DeadLettersCommand::Purge(selection) => purge(&queue, selection).await,
    };
    // Whatever happened, what was only looked at goes back.
    queue.close().await?;
    done
}

async fn list(queue: &DeadLetterQueue, limit: u32, skip: u32) -> anyhow::Result<()> {
    let count = queue.count().await?;
    let mut shown = 0;
    for place in 0..skip.saturating_add(limit) {
        let Some(letter) = queue.fetch().await? else { break };
        if place < skip {
            continue;
        }
        if shown == 0 {
            println!("{:36}  {:24}  {:16}  REASON", "ID", "DEAD_LETTERED AT", "BY");
        }
        shown += 1;
        let FetchedDeadLetter { id, dead_lettered_at, dead_lettered_by, reason, .. } = &letter;
        println!(
            "{id:36}  {dead_lettered_at:24}  {dead_lettered_by:16}  {}",
            one_line(reason, 120)
        );
    }
    println!("{shown} of {count} shown");
    Ok(())
}

async fn show(queue: &DeadLetterQueue, id: &str) -> anyhow::Result<()> {
    let mut letters = Letters::all(queue).await?;
    while let Some(letter) = letters.next().await? {
        if letter.id == id {
            println!("id:        {}", letter.id);
            println!("parked at: {}", letter.dead_lettered_at);
            println!("parked by: {}", letter.dead_lettered_by);
            println!("reason:    {}", letter.reason);
            println!("body:      {} bytes", letter.body.len());
            println!("{}", readable(&letter.body));
            return Ok(());
        }
    }
    bail!("no letter {id} is parked")
}

async fn replay(
    config: &Config,
    queue: &DeadLetterQueue,
    selection: &Selection,
) -> anyhow::Result<()> {
    let settings = StoreSettings::new(config.store.clone(), "dead-letters");
    let store =
        Store::new(StoreSettings { max_connections: 1, ..settings }).await.context("MONGO_URI")?;
    let mut letters = Letters::selected(queue, selection).await?;
    while let Some(letter) = letters.next().await? {
        let id = letter.id.clone();
        if selection.dry_run {
            println!("would replay {id}: {}", one_line(&letter.reason, 120));
            continue;
        }
        // First, or a worker would take the record for the outcome and not try again.
        store.forget_dead_lettered(&command_ids(&letter.body)).await?;
        queue.replay(letter).await.with_context(|| format!("cannot replay {id}"))?;
        println!("replayed {id}");
    }
    Ok(())
}

async fn purge(queue: &DeadLetterQueue, selection: &Selection) -> anyhow::Result<()> {
    let mut letters = Letters::selected(queue, selection).await?;
    while let Some(letter) = letters.next().await? {
        let id = letter.id.clone();
        if selection.dry_run {
            println!("would purge {id}: {}", one_line(&letter.reason, 120));
            continue;
        }
        queue.purge(letter).await.with_context(|| format!("cannot purge {id}"))?;
        println!("purged {id}");
    }
    Ok(())
}

/// Letters, one after the other: all together may be more than fits into memory. What was fetched and
/// is let go stays with the broker, which gives it to nobody until the queue is closed.
struct Letters<'a> {
    queue: &'a DeadLetterQueue,
    chosen: VecDeque<FetchedDeadLetter>,
    /// How many more to fetch; what comes meanwhile is left for the next time.
    left: u32,
}

impl<'a> Letters<'a> {
    async fn all(queue: &'a DeadLetterQueue) -> anyhow::Result<Self> {
        Ok(Self { queue, chosen: VecDeque::new(), left: queue.count().await? })
    }

    async fn selected(queue: &'a DeadLetterQueue, selection: &Selection) -> anyhow::Result<Self> {
        let mut letters = Self::all(queue).await?;
        if selection.all {
            return Ok(letters);
        }
        let mut chosen = VecDeque::new();
        while let Some(letter) = letters.next().await? {
            if selection.ids.contains(&letter.id) {
                chosen.push_back(letter);
            }
        }
        for id in &selection.ids {
            if !chosen.iter().any(|letter| letter.id == *id) {
                bail!("no letter {id} is parked; nothing was done");
            }
        }
        Ok(Self { queue, chosen, left: 0 })
    }

    async fn next(&mut self) -> anyhow::Result<Option<FetchedDeadLetter>> {
        if let Some(letter) = self.chosen.pop_front() {
            return Ok(Some(letter));
        }
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        Ok(self.queue.fetch().await?)
    }
}

/// The commands of a letter that can be read.
fn command_ids(body: &[u8]) -> Vec<CommandId> {
    let commands: Vec<serde_json::Value> = serde_json::from_slice(body).unwrap_or_default();
    commands
        .into_iter()
        .filter_map(|command| serde_json::from_value::<Command>(command).ok())
        .map(|command| command.id)
        .collect()
}

fn readable(body: &[u8]) -> String {
    match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(json) => format!("{json:#}"),
        // What is no JSON may be anything: a terminal must not act on it.
        Err(_) => String::from_utf8_lossy(body).escape_debug().to_string(),
    }
}

fn one_line(text: &str, max_characters: usize) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.chars().count() <= max_characters {
        return line;
    }
    line.chars().take(max_characters - 1).chain(std::iter::once('…')).collect()
}
