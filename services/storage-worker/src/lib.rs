//! Commands in, MongoDB writes, outcomes back. Any number of workers compete for the commands.
//!
//! A delivery is acked only once every command in it is stored by a majority, has failed for good
//! and that is recorded, or is parked. Until then it stays the broker's.

mod apply;
mod batch;
mod command_store;
mod config;
mod dead_letters;
mod metrics;
mod spans;
mod worker;

use std::time::Duration;

use anyhow::Context;
use broker::{BrokerUrl, CommandSource, DeadLetterPublisher, ReplyPublisher};
use service::{ConfigError, Dependency, Health, Phases, Shutdown, http};
use store::{Store, StoreSettings};
use telemetry::metrics::Exporter;
use telemetry::traces::Tracer;
use tokio::sync::watch;

pub use command_store::CommandStore;
pub use config::{Command, Config};
pub use dead_letters::{DeadLettersCommand, Selection};
use metrics::Metrics;
use worker::Worker;

/// Operations on MongoDB at once.
const MAX_STORE_CONNECTIONS: u32 = 32;

/// How long one operation on MongoDB may take before it is tried again. Generous: a large batch on
/// a busy disk takes its time, and the commands are safe with the broker meanwhile.
const STORE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the last replies may take to leave.
const REPLY_FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs a storage worker until `shutdown`. Waits for broker and database as long as it takes.
pub async fn run(config: Config, shutdown: Shutdown) -> anyhow::Result<()> {
    if let Some(Command::DeadLetterPublisher(command)) = &config.command {
        return tokio::select! {
            done = dead_letters::run(&config, command) => done,
            () = shutdown.requested() => anyhow::bail!("interrupted"),
        };
    }
    // Before the store is made, which measures too.
    let _exporter = Exporter::start("storage-worker")?;
    let store = Store::new(StoreSettings {
        uri: config.common.mongo_uri.expose().to_owned(),
        database: config.common.mongo_database.clone(),
        app_name: "storage-worker".to_owned(),
        max_connections: MAX_STORE_CONNECTIONS,
        operation_timeout: STORE_TIMEOUT,
    })
    .await
    .map_err(|error| ConfigError::new("MONGO_URI", error))?;
    let store_up = store.up();
    run_with(config, shutdown, store, store_up).await
}

/// Runs a storage worker on any store, for tests that put one between that panics, dies or lies.
pub async fn run_with(
    config: Config,
    shutdown: Shutdown,
    store: impl CommandStore,
    store_up: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let exporter = Exporter::start("storage-worker")?;
    let traces = Tracer::start(&config.traces, "storage-worker")?;
    let common = &config.common;
    let phases = shutdown.phases(common.drain_delay_ms, common.shutdown_grace_ms);
    let url = BrokerUrl::parse(common.rabbitmq_url.expose()).context("RABBITMQ_URL")?;
    // A worker has no clients that need a delay to notice: it stops taking at once.
    let stop = phases.draining.clone();
    let source = CommandSource::new(&url, "storage-worker commands", config.prefetch, stop.clone());
    let (progress, progressing) = watch::channel(true);
    let (replies, sending) = ReplyPublisher::start(url.clone(), "storage-worker replies");
    let health = Health::new(
        vec![
            Dependency::always("rabbitmq", source.up()),
            // Without it, commands are still applied, and gateways answer 202.
            Dependency::at_start("rabbitmq_replies", replies.up()),
            Dependency::always("mongodb", store_up),
            // MongoDB may answer a ping and still take no writes.
            Dependency::always("writes", progressing),
        ],
        phases.draining.clone(),
    )
    .with_metrics(exporter);
    let listener = http::Listener::bind(config.bind, http::health_settings())?;
    let serving = tokio::spawn({
        let phases: Phases = phases.clone();
        async move { http::serve_health(listener, health, &phases).await }
    });
    let dead_letters =
        DeadLetterPublisher::new(url, "storage-worker dead letters", host_name(), stop);
    let expired = phases.hard_deadline.clone();
    let metrics = Metrics::new();
    let worker = Worker {
        source,
        store,
        dead_letters,
        replies,
        progress,
        phases,
        metrics,
        traces: traces.clone(),
    };
    if expired.run_until_cancelled(Box::pin(worker.work())).await.is_none() {
        tracing::warn!("stopped at the end of the grace; what was in hand is delivered again");
    }
    // The last sender is gone with the worker, so this ends once the last reply is out.
    if tokio::time::timeout(REPLY_FLUSH_TIMEOUT, sending).await.is_err() {
        tracing::warn!("some replies were not sent; their gateways answer 202");
    }
    traces.close().await;
    serving.abort();
    Ok(())
}

fn host_name() -> String {
    match nix::unistd::gethostname() {
        Ok(name) => name.to_string_lossy().into_owned(),
        Err(_) => "unknown".to_owned(),
    }
}
