//! Sends a random stored message to every WebSocket subscriber, each second, and every change of a user's messages to those
//! who follow that user.
//!
//! One of the replicas is elected and publishes a frame at each tick (`sampler`). Every replica writes
//! it to all its subscribers (`fan_out`). Each has a session, which does everything else (`server`). Event streams come from
//! the log of changes, which every replica follows (`events`).

mod config;
mod events;
mod fan_out;
mod frame_watch;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod limits;
mod sampler;
mod server;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use auth::{Authenticator, limits::NamedLimit};
use broker::{Election, ExclusiveConsumer};
use service::{ConfigError, Dependency, Health, Shutdown, fd_limit, http::Listener};
use store::{Store, StoreSettings};
use telemetry::metrics::Exporter;
use tokio::sync::watch;

pub use config::{Command, Config};
use events::{log_reader, stream::Timing, tail::Tail, user_limit::UserLimiter};
use fan_out::hub::Hub;
use limits::{origins::AllowedOrigins, per_ip_limit::PerIpLimiter};
use server::{Content, Settings, Timeouts, authentication::Authentication};

/// Maximum number of operations on MongoDB at once: samples and health checks, and reads for event streams.
const MAX_STORE_CONNECTIONS: u32 = 16;

/// Timeout of each query of a sample.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// File descriptors for everything but subscribers: for handshakes, the broker, the database and the
/// runtime.
const OTHER_DESCRIPTORS: usize = server::MAX_HANDSHAKES + 128;

/// Runs a broadcaster until `shutdown`. Retries to reach the broker and the database without limit.
pub async fn run(config: Config, shutdown: Shutdown) -> anyhow::Result<()> {
    if let Some(Command::Asyncapi) = config.command {
        println!("{:#}", server::asyncapi::document());
        return Ok(());
    }
    let exporter = Exporter::start("broadcaster")?;
    let common = &config.common;
    let url = config.broker.url;
    let store = Store::new(StoreSettings {
        max_connections: MAX_STORE_CONNECTIONS,
        operation_timeout: STORE_TIMEOUT,
        ..StoreSettings::new(config.store, "broadcaster")
    })
    .await
    .map_err(|error| ConfigError::new("MONGO_URI", error))?;
    let listener = Listener::bind(config.bind, server::listener_settings())?;
    let phases = shutdown.phases(common.drain_delay_ms, common.shutdown_grace_ms);
    let authenticator = Authenticator::start(&config.auth, phases.hard_deadline.clone())?;
    let jwks = authenticator.as_ref().map(|it| Dependency::at_start("jwks", it.keys()));
    let authentication =
        authenticator.map(|it| Arc::new(Authentication::new(it, config.chat_public)));
    let settings = Settings {
        access_log: common.log.access,
        max_subscribers: fd_limit::raise(config.max_connections as usize, OTHER_DESCRIPTORS),
        event_origins: config.allowed_origins.clone().unwrap_or_default(),
        origins: AllowedOrigins::new(config.allowed_origins),
        trusted_proxies: config.trusted_proxies,
        per_ip: PerIpLimiter::new(config.max_connections_per_address),
        // The other half of the grace period is for the closing handshakes.
        close_spread: common.shutdown_grace_ms / 2,
        closes_per_second: 1_000,
        timeouts: Timeouts::default(),
        authentication,
        reads: config.rate_limit_reads.map(|rate| NamedLimit::new("reads", rate)),
        per_user: UserLimiter::new(config.max_streams_per_user as usize),
        timing: Timing::default(),
    };

    let hub = Arc::new(Hub::new());
    let receiving = Arc::clone(&hub);
    let frames = ExclusiveConsumer::frames(&url, move |frame| receiving.publish(&frame));
    let tail = Tail::new();
    let (hinted, hinted_store) = (Arc::clone(&tail), store.clone());
    let hints = ExclusiveConsumer::hints(&url, move |hint| {
        // The messages are read after it.
        if let Some(time) = hint.cluster_time {
            hinted_store.advance(time);
        }
        hinted.hint(hint);
    });
    let reading = log_reader::run(Arc::clone(&tail), store.clone(), phases.hard_deadline.clone());
    let reading = tokio::spawn(reading);
    let store_up = store.up();
    // The leader resigns as soon as draining begins, so that another replica publishes while this one
    // still serves its subscribers.
    let stop = phases.draining.clone();
    let election = Election::new(&url, stop.clone());
    let interval = config.broadcast_interval_ms;
    let readable = watch::Sender::new(true);
    let dependencies = vec![
        Dependency::always("rabbitmq", frames.up()),
        // Without them, subscribers stay, and get frames as soon as those come again.
        Dependency::optional("rabbitmq_publish", election.up()).blocked_by(election.alarm()),
        // Without hints, events come from the log, once a second.
        Dependency::optional("hints", hints.up()),
        Dependency::optional("event_log", tail.up()),
        Dependency::optional("frames", frame_watch::start(&hub, &store, interval)),
        Dependency::at_start("mongodb", store_up.clone()),
        // Down while documents are stored, but all of them are another service's.
        Dependency::at_start("readable_messages", readable.subscribe()),
    ];
    let dependencies = dependencies.into_iter().chain(jwks).collect();
    let health = Health::new(dependencies, phases.draining.clone())
        .with_metrics(exporter)
        .with_metrics_at(common.metrics_bind, common.log.access, &phases)?;
    let sampling = sampler::run(election, store.clone(), store_up, interval, stop, readable);
    let sampling = tokio::spawn(sampling);

    let content = Content { hub, tail, store: Arc::new(store) };
    server::serve(listener, content, health, settings, &phases).await;
    reading.abort();
    let ending = async {
        frames.close().await;
        hints.close().await;
        sampling.await
    };
    if let Some(sampled) = phases.hard_deadline.run_until_cancelled(ending).await {
        sampled.context("the sampler panicked")?;
    }
    Ok(())
}
