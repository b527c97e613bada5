//! REST in, commands out, reads from the store.
//!
//! A write is published as a command and answered when the worker's outcome has come back, so a
//! read after a 2xx sees it. If that takes too long the answer is 202: the broker has the command
//! on its disks, and it will be applied.

mod api;
mod commands;
mod config;
mod http;
mod openapi;
mod proxy;
mod router;
mod spans;
mod state;
mod web;

use std::time::Duration;

use anyhow::Context;
use broker::{BrokerUrl, Publisher, PublisherSettings, ReplySource};
use service::{ConfigError, DedicatedRuntime, Dependency, Health, Shutdown, fd_limit};
use store::{Store, StoreSettings};
use telemetry::metrics::{Exporter, Requests};
use telemetry::traces::Tracer;

use commands::{pending::Pending, submit::CommandSubmitter};
pub use config::{Command, Config};
use proxy::tunnel::Tunnel;
use state::AppState;

/// Operations on MongoDB at once.
const MAX_STORE_CONNECTIONS: u32 = 50;

/// How long a read may take: with MongoDB away it is refused within 2 s.
const STORE_TIMEOUT: Duration = Duration::from_millis(1800);

/// Client connections at once; more wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 10_000;

/// Requests at once; more are answered 503.
const MAX_REQUESTS: usize = 8_192;

/// WebSockets tunnelled to the broadcaster at once.
const MAX_TUNNELS: usize = 1_000;

/// Descriptors for everything but clients: the other ends of tunnels, connections to the broker
/// and to the database, and what the runtime itself opens.
const OTHER_DESCRIPTORS: usize = MAX_TUNNELS + 128;

/// Runs a gateway until `shutdown`. Waits for broker and database as long as it takes.
pub async fn run(config: Config, shutdown: Shutdown) -> anyhow::Result<()> {
    if let Some(Command::Openapi) = config.command {
        println!("{}", router::document().to_pretty_json()?);
        return Ok(());
    }
    let exporter = Exporter::start("gateway")?;
    let traces = Tracer::start(&config.traces, "gateway")?;
    let common = &config.common;
    let phases = shutdown.phases(common.drain_delay_ms, common.shutdown_grace_ms);
    let url = BrokerUrl::parse(common.rabbitmq_url.expose()).context("RABBITMQ_URL")?;
    let store = Store::new(StoreSettings {
        uri: common.mongo_uri.expose().to_owned(),
        database: common.mongo_database.clone(),
        app_name: "gateway".to_owned(),
        max_connections: MAX_STORE_CONNECTIONS,
        operation_timeout: STORE_TIMEOUT,
    })
    .await
    .map_err(|error| ConfigError::new("MONGO_URI", error))?;
    let pending = Pending::default();
    // Under overload most requests are refused, and what was taken must not wait behind those.
    let executor =
        DedicatedRuntime::start("broker").context("cannot start a thread for the broker")?;
    let replies = executor.run(|| {
        let pending = pending.clone();
        ReplySource::start(url.clone(), "gateway replies", move |outcome| pending.resolve(outcome))
    });
    let publisher = executor.run(|| {
        let settings = PublisherSettings {
            url,
            connection_name: "gateway commands".to_owned(),
            publish_connections: usize::from(config.publish_connections),
            max_waiting: config.max_waiting_writes as usize,
        };
        Publisher::start(settings, &replies.queue_name())
    });
    let health = Health::new(
        vec![
            // Without the broker, reads still work, and writes are refused in time. Without the
            // database, creates and deletions are still taken and answered 202.
            Dependency::at_start("rabbitmq_publish", publisher.up()),
            Dependency::at_start("rabbitmq_replies", replies.up()),
            Dependency::at_start("mongodb", store.up()),
        ],
        phases.draining.clone(),
    )
    .with_metrics(exporter);
    let writes = CommandSubmitter::new(
        publisher.clone(),
        pending,
        config.max_waiting_writes as usize,
        phases.soft_deadline.clone(),
    );
    let tunnel = Tunnel::new(&config.broadcaster()?, MAX_TUNNELS, phases.clone());
    let app = AppState {
        store,
        writes,
        health,
        requests: Requests::default(),
        traces: traces.clone(),
        tunnel: tunnel.clone(),
        write_wait: config.write_wait_ms,
        draining: phases.draining.clone(),
    };
    let listener = service::http::bind(config.bind).await?;
    let router = router::router(app, &config.cors_origins, MAX_REQUESTS)?;
    let connections = fd_limit::raise(MAX_CONNECTIONS, OTHER_DESCRIPTORS);
    service::http::serve(listener, router, connections, &phases).await;
    let ending = async {
        tunnel.close().await;
        publisher.close().await;
        // Last, so that every outcome that came in time was heard.
        replies.close().await;
    };
    if phases.hard_deadline.run_until_cancelled(ending).await.is_none() {
        tracing::warn!("the broker did not let go within the grace");
    }
    traces.close().await;
    Ok(())
}
