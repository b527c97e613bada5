//! A measured system that serves the API, and its stored messages. Messages have numbers,
//! from which their ids and conversations follow (`shared/store/examples/bench-store/seed.rs`).

use std::{
    cell::Cell,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;

use crate::{
    operation::Operation,
    process::{bench_store, output},
    usage::Watched,
};

/// Maximum rate of deletions, each of which takes a message of its own.
const MAX_DELETES_PER_SECOND: u64 = 30_000;
/// Number of different requests of a constant rate.
const DISTINCT_REQUESTS: u64 = 20_000;
/// Number of messages from which on a conversation surely fills a page of 50.
const LONG: f64 = 65.0;
/// Maximum time for storing messages.
const SEED_SECONDS: u64 = 1_800;
/// 2024-06-14, when message 0 was published.
const BEGUN_MS: u64 = 0x0190_0000_0000;

/// A running system.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    /// Name in the results.
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) watched: Vec<Watched>,
}

/// A database with messages stored beforehand.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) uri: String,
    pub(crate) database: String,
    /// The peer's form of documents.
    pub(crate) plain: bool,
    pub(crate) messages: u64,
    next: Cell<u64>,
    run: Cell<u64>,
}

/// Files with requests for a constant rate.
pub(crate) struct Requests {
    pub(crate) urls: PathBuf,
    pub(crate) bodies: Option<PathBuf>,
}

impl Stored {
    /// Describes a database that is still empty.
    pub(crate) fn new(uri: &str, database: &str, plain: bool, messages: u64) -> Self {
        let (uri, database) = (uri.to_owned(), database.to_owned());
        Self { uri, database, plain, messages, next: Cell::new(0), run: Cell::new(0) }
    }

    /// Stores the messages that exist before the load.
    pub(crate) async fn fill(&self) -> Result<()> {
        self.seed(self.messages).await.map(drop)
    }

    /// Returns the arguments of `load.lua`. Stores the messages that it deletes.
    pub(crate) async fn closed_loop(
        &self,
        operation: Operation,
        seconds: u64,
    ) -> Result<Vec<String>> {
        let (first, count) = match operation {
            Operation::Delete => {
                let count = seconds * MAX_DELETES_PER_SECOND;
                (self.seed(count).await?, count)
            }
            _ => (0, self.messages),
        };
        Ok(vec![
            operation.name().to_owned(),
            format!("run={}", self.next_run()),
            format!("first={first}"),
            format!("count={count}"),
            format!("conversations={}", self.conversations()),
            format!("long={}", self.long_conversations()),
        ])
    }

    /// Writes files with requests to `dir`. Stores the messages that they delete, so many that few are chosen
    /// twice.
    pub(crate) async fn requests(
        &self,
        operation: Operation,
        url: &str,
        deletes: u64,
        dir: &Path,
    ) -> Result<Requests> {
        let messages = format!("{url}/api/messages");
        let run = self.next_run();
        let spread = (self.messages / DISTINCT_REQUESTS).max(1);
        let existing = (0..self.messages.min(DISTINCT_REQUESTS)).map(|step| step * spread);
        let mut urls = String::new();
        let mut bodies = String::new();
        match operation {
            Operation::Post => {
                writeln!(urls, "{messages}")?;
                for number in 0..DISTINCT_REQUESTS {
                    let conversation = number % u64::from(self.conversations());
                    writeln!(
                        bodies,
                        r#"{{"from_user_id":"user-{conversation}","to_user_id":"reader-{conversation}","content":"message {number} of run {run}: about as long as what people write to each other"}}"#
                    )?;
                }
            }
            Operation::List => {
                for number in 0..self.long_conversations() {
                    writeln!(
                        urls,
                        "{messages}?from_user_id=user-{number}&to_user_id=reader-{number}&limit=50"
                    )?;
                }
            }
            Operation::Get => {
                for number in existing {
                    writeln!(urls, "{messages}/{}", id(number))?;
                }
            }
            Operation::Put => {
                for number in existing {
                    writeln!(urls, "{messages}/{}", id(number))?;
                    writeln!(
                        bodies,
                        r#"{{"content":"edit {number} of run {run}: about as long as what people write to each other"}}"#
                    )?;
                }
            }
            Operation::Delete => {
                let first = self.seed(deletes).await?;
                for number in first..first + deletes {
                    writeln!(urls, "{messages}/{}", id(number))?;
                }
            }
        }
        let name = operation.name();
        let files = Requests {
            urls: dir.join(format!("{name}-urls.txt")),
            bodies: (!bodies.is_empty()).then(|| dir.join(format!("{name}-bodies.txt"))),
        };
        fs::write(&files.urls, urls)?;
        if let Some(file) = &files.bodies {
            fs::write(file, bodies)?;
        }
        Ok(files)
    }

    /// Returns the number of conversations that fill a page. They are the first ones.
    pub(crate) fn long_conversations(&self) -> u32 {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let long = self.messages as f64 / (LONG * f64::from(self.conversations()).ln());
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "far below 2^32"
        )]
        let long = long as u32;
        long.max(1)
    }

    /// Returns the number of conversations. Few are long, and many have one or two messages.
    pub(crate) fn conversations(&self) -> u32 {
        u32::try_from(self.messages / 10).unwrap_or(u32::MAX).max(10)
    }

    /// Stores more messages, and returns the first one's number.
    async fn seed(&self, count: u64) -> Result<u64> {
        let first = self.next.replace(self.next.get() + count);
        let mut command = bench_store("seed", &self.uri, &self.database)?;
        command
            .args(["--first", &first.to_string(), "--count", &count.to_string()])
            .args(["--conversations", &self.conversations().to_string()]);
        if self.plain {
            command.arg("--plain");
        }
        output(command, SEED_SECONDS).await?;
        Ok(first)
    }

    fn next_run(&self) -> u64 {
        self.run.replace(self.run.get() + 1)
    }
}

/// Returns the id of the message with this number.
fn id(number: u64) -> String {
    let at = BEGUN_MS + number;
    format!("{:08x}-{:04x}-7000-8000-{number:012x}", at >> 16, at & 0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_the_seeder() {
        for (number, text) in [
            (0, "01900000-0000-7000-8000-000000000000"),
            (65_535, "01900000-ffff-7000-8000-00000000ffff"),
            (10_000_000, "01900098-9680-7000-8000-000000989680"),
        ] {
            assert_eq!(id(number), text);
        }
    }

    #[test]
    fn long_conversations_are_few() {
        for messages in [10_000, 1_000_000, 10_000_000] {
            let stored = Stored::new("", "", false, messages);
            assert!(stored.long_conversations() * 10 < stored.conversations(), "{messages}");
        }
    }
}
