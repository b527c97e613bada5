//! A random stored message to every WebSocket subscriber, each second.
//!
//! One of the replicas is elected and draws (`drawer`); every replica consumes what is drawn and
//! writes it to the sockets of all its subscribers ([`hub`]); a session for each of them does the
//! rest ([`server`]).

mod config;
pub mod hub;
pub mod origins;
mod paced_stream;
pub mod per_ip_limit;
mod sampler;
pub mod server;
mod subscriber_sink;
mod two_stage_deadline;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use broker::{BrokerUrl, Election, FrameSource};
use service::{ConfigError, Dependency, Health, Shutdown, fd_limit};
use store::{Store, StoreSettings};
use telemetry::metrics::Exporter;

pub use config::{Command, Config};
use hub::Hub;
use origins::AllowedOrigins;
use per_ip_limit::AddressLimit;
use server::Settings;

/// Operations on MongoDB at once: a draw, the health check, and one of each that a frozen server
/// still holds.
const MAX_STORE_CONNECTIONS: u32 = 4;

/// How long each query of a draw may take.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// Descriptors for everything but subscribers: connections in their handshake, to the broker and
/// to the database, and what the runtime itself opens.
const OTHER_DESCRIPTORS: usize = server::MAX_HANDSHAKES + 128;

/// Runs a broadcaster until `shutdown`. Waits for broker and database as long as it takes.
pub async fn run(config: Config, shutdown: Shutdown) -> anyhow::Result<()> {
    if let Some(Command::Asyncapi) = config.command {
        println!("{:#}", server::asyncapi::document());
        return Ok(());
    }
    let exporter = Exporter::start("broadcaster")?;
    let common = &config.common;
    let url = BrokerUrl::parse(common.rabbitmq_url.expose()).context("RABBITMQ_URL")?;
    let store = Store::new(StoreSettings {
        uri: common.mongo_uri.expose().to_owned(),
        database: common.mongo_database.clone(),
        app_name: "broadcaster".to_owned(),
        max_connections: MAX_STORE_CONNECTIONS,
        operation_timeout: STORE_TIMEOUT,
    })
    .await
    .map_err(|error| ConfigError::new("MONGO_URI", error))?;
    let listener = server::bind(config.bind)?;
    let phases = shutdown.phases(common.drain_delay_ms, common.shutdown_grace_ms);
    let settings = Settings {
        max_connections: fd_limit::raise(config.max_connections as usize, OTHER_DESCRIPTORS),
        origins: AllowedOrigins::new(config.allowed_origins),
        addresses: AddressLimit::new(config.max_connections_per_address, config.trusted_proxies),
        // The other half of the grace is for the close handshakes.
        close_spread: common.shutdown_grace_ms / 2,
        ..Settings::default()
    };

    let hub = Arc::new(Hub::new());
    let receiving = Arc::clone(&hub);
    let frames = FrameSource::start(&url, "broadcaster frames", move |frame| {
        receiving.publish(&frame);
    });
    let store_up = store.up();
    let health = Health::new(
        vec![
            Dependency::always("rabbitmq", frames.up()),
            Dependency::at_start("mongodb", store_up.clone()),
        ],
        phases.draining.clone(),
    )
    .with_metrics(exporter);
    // It resigns as soon as the draining begins, while subscribers are still served: another one
    // draws for them.
    let stop = phases.draining.clone();
    let election = Election::new(&url, "broadcaster drawer", stop.clone());
    let drawing = sampler::run(election, store, store_up, config.broadcast_interval_ms, stop);
    let drawing = tokio::spawn(drawing);

    server::serve(listener, hub, health, settings, &phases).await;
    let ending = async {
        frames.close().await;
        drawing.await
    };
    if let Some(drawn) = phases.hard_deadline.run_until_cancelled(ending).await {
        drawn.context("the drawer's task failed")?;
    }
    Ok(())
}
