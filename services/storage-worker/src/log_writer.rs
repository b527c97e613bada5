//! Appending changes to the log, and acking each delivery group once its changes are in it.
//!
//! One append is in flight. What is applied meanwhile gathers for the next one: so a lone change waits for nobody, and under
//! load one entry has many changes. Under heavy load, an entry waits for more. Replies do not wait for the log.

use std::{sync::Arc, time::Duration};

use broker::{Acknowledgement, HintPublisher};
use contracts::{Change, CommandId, Hint, MAX_ENTRY_CHANGES, MessageId};
use futures_util::future;
use store::{LogAppender, PendingEntry, StoreError};
use telemetry::{
    error_chain,
    metrics::{Counter, Histogram, catalog},
    traces::TraceContext,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout_at},
};
use uuid::Uuid;

use crate::{
    changes::{ChangeSource, CommandChange},
    command_store::CommandStore,
    retry::{Abandoned, Retry},
    spans::{Operation, traced},
};

/// Time for which the epoch stays good. Until then, hints may have that of a log which was restored since; broadcasters
/// read it themselves.
const EPOCH_LIFETIME: Duration = Duration::from_secs(1);

/// Time after a conflict in which others are expected to append, too.
const CONTENTION: Duration = Duration::from_secs(1);

/// Number of appends in a row after which another worker may have its turn. One that always comes too late would not be
/// noticed otherwise: it conflicts, and this one does not.
const MAX_IN_A_ROW: u32 = 8;

/// Maximum pause between two appends.
const MAX_PAUSE: Duration = Duration::from_millis(50);

/// Number of changes of an entry behind which the next one waits for more: an entry costs MongoDB as much as fifty changes.
const MANY_CHANGES: usize = 32;

/// Maximum time for which an entry waits for more changes.
const GATHERING: Duration = Duration::from_millis(10);

/// A delivery group that was applied, on its way to the log.
pub(crate) struct AppliedGroup {
    pub(crate) changes: Vec<CommandChange>,
    pub(crate) acknowledgement: Acknowledgement,
}

/// A change with the context of its command's span, if that trace is recorded.
type TracedChange = (Change, Option<TraceContext>);

/// Appends changes, and acks their groups in the order in which they came.
pub(crate) struct LogWriter<S> {
    store: Arc<S>,
    retry: Retry,
    hints: HintPublisher,
    appender: LogAppender,
    /// The epoch, and when it was read.
    epoch: Option<(Uuid, Instant)>,
    turns: Turns,
    metrics: Metrics,
}

/// Tells when to leave the log to other workers.
#[derive(Default)]
struct Turns {
    /// Time at which another worker was last faster.
    conflict_at: Option<Instant>,
    /// Appends since the last pause.
    in_a_row: u32,
}

struct Metrics {
    append_duration: Histogram,
    entry_changes: Histogram,
    conflicts: Counter,
}

impl<S: CommandStore> LogWriter<S> {
    pub(crate) fn new(store: Arc<S>, retry: Retry, hints: HintPublisher) -> Self {
        Self {
            retry,
            hints,
            appender: LogAppender::new(store.store().clone()),
            epoch: None,
            turns: Turns::default(),
            metrics: Metrics {
                append_duration: catalog::LOG_APPEND_DURATION.register(),
                entry_changes: catalog::LOG_ENTRY_CHANGES.register(),
                conflicts: catalog::LOG_CONFLICTS.register(),
            },
            store,
        }
    }

    /// Makes the log's epoch, unless there is one.
    pub(crate) async fn prepare(&mut self) -> Result<(), Abandoned> {
        let store = self.store.store();
        let making = async |_| store.ensure_log_epoch().await;
        let epoch = self.retry.until_done("failed to make the epoch of the log", making).await?;
        self.epoch = Some((epoch, Instant::now()));
        Ok(())
    }

    /// Works until the last group has come and is acked. Groups that it gives up are delivered again.
    pub(crate) async fn run(mut self, mut groups: mpsc::Receiver<AppliedGroup>) {
        let mut gathering = Duration::ZERO;
        while let Some(first) = groups.recv().await {
            let mut changes = first.changes;
            let mut acknowledgements = vec![first.acknowledgement];
            let gathered_at = Instant::now() + gathering;
            while changes.len() < MAX_ENTRY_CHANGES
                && let Ok(Some(next)) = timeout_at(gathered_at, groups.recv()).await
            {
                changes.extend(next.changes);
                acknowledgements.push(next.acknowledgement);
            }
            gathering = if changes.len() < MANY_CHANGES { Duration::ZERO } else { GATHERING };
            let Ok(pause) = self.append_all(changes).await else { return };
            for acknowledgement in acknowledgements {
                acknowledgement.send().await;
            }
            if let Some(pause) = pause {
                sleep(pause).await;
            }
        }
    }

    /// Appends changes. Returns for how long to leave the log to the other workers that compete for it: the winner of a
    /// number knows the next one first, and would win each.
    async fn append_all(
        &mut self,
        changes: Vec<CommandChange>,
    ) -> Result<Option<Duration>, Abandoned> {
        let mut changes = self.read_back(changes).await?;
        let mut pause = None;
        while !changes.is_empty() {
            let rest = changes.split_off(changes.len().min(MAX_ENTRY_CHANGES));
            pause = self.append(changes).await?;
            changes = rest;
        }
        Ok(pause)
    }

    /// Reads the changes that only the messages tell, and leaves out what changed nothing.
    async fn read_back(&self, changes: Vec<CommandChange>) -> Result<Vec<TracedChange>, Abandoned> {
        let asked: Vec<(CommandId, MessageId)> = changes
            .iter()
            .filter_map(|change| match change.source {
                ChangeSource::Outcome(_) => None,
                ChangeSource::Message(command, message) => Some((command, message)),
            })
            .collect();
        let store = self.store.store();
        let reading = async |_| store.remembered_changes(&asked).await;
        let failure = "failed to read changed messages back";
        let mut remembered = self.retry.until_done(failure, reading).await?;
        let known = changes.into_iter().filter_map(|CommandChange { source, trace_context }| {
            let change = match source {
                ChangeSource::Outcome(change) => change,
                ChangeSource::Message(command, message) => {
                    let change = remembered.remove(&command);
                    if change.is_none() {
                        tracing::debug!(
                            command.id = %command, message.id = %message,
                            "no change to log: the message does not remember the command, or not its users"
                        );
                    }
                    change?
                }
            };
            Some((change, trace_context))
        });
        Ok(known.collect())
    }

    /// Appends one entry and announces it.
    async fn append(&mut self, changes: Vec<TracedChange>) -> Result<Option<Duration>, Abandoned> {
        let (changes, contexts): (Vec<_>, Vec<_>) = changes.into_iter().unzip();
        #[expect(clippy::cast_precision_loss, reason = "no entry is as large as that")]
        self.metrics.entry_changes.record(changes.len() as f64);
        let mut pending = PendingEntry::new(changes);
        let Self { store, appender, epoch, .. } = self;
        let begun = Instant::now();
        // After a failure it is the same entry again: it may be in the log.
        let appending = async |_| -> Result<(), StoreError> {
            let appending = store.append(appender, &mut pending);
            traced(Operation::Append, contexts.iter().map(Option::as_ref), appending).await
        };
        let appending = self.retry.until_done("failed to append to the log of changes", appending);
        let (appended, ()) = future::join(appending, refresh(epoch, store.as_ref())).await;
        appended?;
        let duration = begun.elapsed();
        self.metrics.append_duration.record(duration);
        self.metrics.conflicts.increment(pending.conflicts.into());
        let gives_way = self.turns.appended(pending.conflicts);
        let pause = (duration / (pending.conflicts + 1)).min(MAX_PAUSE);
        if let Some((epoch, _)) = self.epoch {
            let cluster_time = self.store.store().cluster_time();
            self.hints.announce(&Hint { epoch, entry: pending.into_entry(), cluster_time });
        }
        Ok(gives_way.then_some(pause))
    }
}

impl Turns {
    /// Notes an append, and returns whether others have their turn now.
    fn appended(&mut self, conflicts: u32) -> bool {
        if conflicts > 0 {
            self.conflict_at = Some(Instant::now());
        }
        self.in_a_row += 1;
        let contended = self.conflict_at.is_some_and(|at| at.elapsed() < CONTENTION);
        let others = contended || self.in_a_row >= MAX_IN_A_ROW;
        if others {
            self.in_a_row = 0;
        }
        others
    }
}

/// Reads the epoch if it is time. After a failure the former one stays: hints are only hints.
async fn refresh(epoch: &mut Option<(Uuid, Instant)>, store: &impl CommandStore) {
    if epoch.is_some_and(|(_, read_at)| read_at.elapsed() < EPOCH_LIFETIME) {
        return;
    }
    match store.store().ensure_log_epoch().await {
        Ok(read) => *epoch = Some((read, Instant::now())),
        Err(error) => {
            tracing::debug!(error = %error_chain(&error), "failed to read the epoch of the log");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_have_their_turn_after_a_conflict_and_now_and_then() {
        let mut turns = Turns::default();
        for _ in 0..2 {
            for _ in 1..MAX_IN_A_ROW {
                assert!(!turns.appended(0));
            }
            assert!(turns.appended(0));
        }
        assert!(turns.appended(1) && turns.appended(0));
        turns.conflict_at = turns.conflict_at.map(|at| at - CONTENTION);
        assert!(!turns.appended(0));
    }
}
