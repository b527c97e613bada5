//! Commands in, MongoDB writes, outcomes back. Any number of workers compete for the commands.
//!
//! A delivery is acked only once each of its commands is stored by a majority, has failed with a
//! recorded outcome, or is dead-lettered, and once their changes are in the log. Until then the delivery
//! stays with the broker.

mod admission;
mod apply;
mod changes;
mod command_store;
mod config;
mod dead_letters;
mod delivery_attempts;
mod delivery_group;
mod events;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod import;
mod log_writer;
mod outcomes;
mod retry;
mod spans;
mod trim;
mod worker;

use std::{sync::Arc, time::Duration};

use broker::{CommandSource, DeadLetterPublisher, HintPublisher, ReplyPublisher};
use service::{ConfigError, Dependency, Health, Shutdown, health};
use store::{Store, StoreSettings};
use telemetry::{metrics::Exporter, traces::Tracer};
use tokio::sync::watch;

use admission::MixedActors;
pub use command_store::CommandStore;
pub use config::{Command, Config};
pub use dead_letters::{DeadLettersCommand, Selection};
pub use events::EventsCommand;
pub use import::ImportCommand;
use log_writer::LogWriter;
use retry::Retry;
use worker::{Metrics, Worker};

/// Maximum number of concurrent operations on MongoDB.
const MAX_STORE_CONNECTIONS: u32 = 32;

/// Maximum time for sending the last replies.
const REPLY_FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs a storage worker until `shutdown`. Waits for the broker and the database without a limit.
pub async fn run(config: Config, shutdown: Shutdown) -> anyhow::Result<()> {
    match &config.command {
        None => {}
        Some(Command::DeadLetters(command)) => {
            return tokio::select! {
                done = dead_letters::run(&config.broker, &config.store, command) => done,
                () = shutdown.requested() => anyhow::bail!("interrupted"),
            };
        }
        Some(Command::Events(command)) => return events::run(&config.store, command).await,
        Some(Command::Import(command)) => {
            return import::run(&config.store, command, &shutdown).await;
        }
    }
    // Before the store, which registers metrics too.
    let _exporter = Exporter::start("storage-worker")?;
    let store = Store::new(StoreSettings {
        max_connections: MAX_STORE_CONNECTIONS,
        ..StoreSettings::new(config.store.clone(), "storage-worker")
    })
    .await
    .map_err(|error| ConfigError::new("MONGO_URI", error))?;
    let store_up = store.up();
    run_with(config, shutdown, store, store_up).await
}

/// Runs a storage worker on any store, for tests whose store panics, dies or lies.
pub async fn run_with(
    config: Config,
    shutdown: Shutdown,
    store: impl CommandStore,
    store_up: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let exporter = Exporter::start("storage-worker")?;
    let tracer = Tracer::start(&config.traces, "storage-worker")?;
    let common = &config.common;
    let phases = shutdown.phases(common.drain_delay_ms, common.shutdown_grace_ms);
    let url = config.broker.url;
    // A worker has no clients that need time to notice: it stops consuming at once.
    let stop = phases.draining.clone();
    let source = CommandSource::new(&url, config.prefetch, stop.clone());
    let store = Arc::new(store);
    let retry = Retry::new(phases.clone(), "use MongoDB for commands");
    let log_retry = Retry::new(phases.clone(), "append to the log of changes");
    let (replies, sending) = ReplyPublisher::start(url.clone());
    let hints = HintPublisher::start(url.clone());
    let dead_letters = DeadLetterPublisher::new(url, stop.clone());
    let health = Health::new(
        vec![
            Dependency::always("rabbitmq", source.up()),
            // Without it, commands are still applied, and gateways respond with 202.
            Dependency::at_start("rabbitmq_replies", replies.up()).blocked_by(replies.alarm()),
            // A worker that cannot dead-letter a command takes no others.
            Dependency::always("dead_letters", dead_letters.up()).blocked_by(dead_letters.alarm()),
            Dependency::always("mongodb", store_up),
            Dependency::always("writes", retry.progress()),
            Dependency::always("change_log", log_retry.progress()),
        ],
        phases.draining.clone(),
    )
    .with_metrics(exporter)
    .with_metrics_at(common.metrics_bind, common.log.access, &phases)?;
    let listener = health::bind(config.bind)?;
    let access_log = common.log.access;
    let serving_phases = phases.clone();
    let serving = tokio::spawn(async move {
        health::serve(listener, health, access_log, &serving_phases).await;
    });
    let metrics = Metrics::new();
    let log_writer = LogWriter::new(Arc::clone(&store), log_retry, hints);
    let trimming = trim::trim_regularly(store.store().clone(), config.events_retention, stop);
    let worker = Worker {
        source,
        store,
        dead_letters,
        replies,
        retry,
        metrics,
        tracer: tracer.clone(),
        require_actor: config.require_actor,
        mixed_actors: MixedActors::default(),
    };
    let working = worker.work(log_writer, config.prefetch, trimming);
    let working = phases.hard_deadline.run_until_cancelled(Box::pin(working));
    if working.await.is_none() {
        tracing::warn!("grace period over; the broker delivers unfinished commands again");
    }
    // The last sender is gone with the worker, so this ends once the last reply is sent.
    if tokio::time::timeout(REPLY_FLUSH_TIMEOUT, sending).await.is_err() {
        tracing::warn!("some replies were not sent; their gateways respond with 202");
    }
    tracer.close().await;
    serving.abort();
    Ok(())
}
