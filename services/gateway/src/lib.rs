//! REST in, commands out, reads from the store.
//!
//! A write is published as a command and answered with the worker's outcome, so that a read after a
//! 2xx sees it. If that takes too long, the response is 202: the broker has the command on its
//! disks, and it will be applied.

mod api;
mod auth;
mod commands;
mod config;
mod error;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod limit;
mod openapi;
mod proxy;
mod router;
mod spans;
mod state;
mod web;

use std::time::Duration;

use ::auth::{Authenticator, limits::FailureLimit};
use axum::body::Bytes;
use service::{
    ConfigError, Dependency, Health, Shutdown, fd_limit,
    http::{Listener, ListenerSettings},
};
use store::{RecentLogEnd, Store, StoreSettings};
use telemetry::metrics::{Exporter, Requests};
use telemetry::traces::Tracer;

use crate::auth::{Admission, RateLimits};
use commands::{CommandSubmitter, broker_clients::BrokerClients, pending::Pending};
pub use config::{Command, Config};
use http::middleware::cors::Cors;
use proxy::Proxy;
use state::AppState;

/// Maximum operations on MongoDB at a time.
const MAX_STORE_CONNECTIONS: u32 = 50;

/// Time limit of a read. Without MongoDB it must be refused within 2 s.
const STORE_TIMEOUT: Duration = Duration::from_millis(1800);

/// Maximum client connections. More wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 10_000;

/// Maximum requests at a time to messages and operations: one for each connection. Only over HTTP/2 can there be more;
/// those are answered 503 at once, because each that waited would take memory.
const MAX_REQUESTS: usize = MAX_CONNECTIONS;

/// Maximum tunnels to the broadcaster and responses of it that are passed on, event streams above all.
const MAX_EXCHANGES: usize = 2_000;

/// File descriptors besides those of clients: connections to the broadcaster, connections to RabbitMQ and
/// MongoDB, and those of the runtime.
const OTHER_DESCRIPTORS: usize = MAX_EXCHANGES + 128;

/// Runs a gateway until `shutdown`. It starts even if RabbitMQ or MongoDB is down, and keeps retrying.
pub async fn run(config: Config, shutdown: Shutdown) -> anyhow::Result<()> {
    if let Some(Command::Openapi) = config.command {
        println!("{}", router::document().to_pretty_json()?);
        return Ok(());
    }
    let operation_macs = config.operation_macs()?;
    let exporter = Exporter::start("gateway")?;
    let tracer = Tracer::start(&config.traces, "gateway")?;
    let common = &config.common;
    let phases = shutdown.phases(common.drain_delay_ms, common.shutdown_grace_ms);
    let store = Store::new(StoreSettings {
        max_connections: MAX_STORE_CONNECTIONS,
        operation_timeout: STORE_TIMEOUT,
        ..StoreSettings::new(config.store, "gateway")
    })
    .await
    .map_err(|error| ConfigError::new("MONGO_URI", error))?;
    let pending = Pending::default();
    let max_waiting = config.max_waiting_writes as usize;
    let broker = BrokerClients::start(
        config.broker.url,
        usize::from(config.publish_connections),
        max_waiting,
        pending.clone(),
        store.clone(),
    )?;
    let authenticator = Authenticator::start(&config.auth, phases.hard_deadline.clone())?;
    let health =
        Health::new(dependencies(&broker, &store, authenticator.as_ref()), phases.draining.clone())
            .with_metrics(exporter)
            .with_metrics_at(common.metrics_bind, common.log.access, &phases)?;
    let soft_deadline = phases.soft_deadline.clone();
    let publisher = broker.publisher.clone();
    let commands = CommandSubmitter::new(publisher, pending, max_waiting, soft_deadline);
    let is_auth_on = authenticator.is_some();
    let proxy = Proxy::new(&config.broadcaster_url, is_auth_on, MAX_EXCHANGES, phases.clone());
    let state = AppState {
        store,
        log_end: RecentLogEnd::default(),
        commands,
        health,
        requests: Requests::default(),
        access_log: common.log.access,
        cors: Cors::new(&config.cors_origins),
        origins: config.cors_origins,
        tracer: tracer.clone(),
        proxy: proxy.clone(),
        operation_macs,
        resource_metadata: authenticator.as_ref().map(|it| Bytes::from(it.resource_metadata())),
        write_wait: config.write_wait_ms,
        draining: phases.draining.clone(),
    };
    let admission = Admission {
        authenticator,
        failures: FailureLimit::default(),
        limits: RateLimits::new(config.rate_limit_writes, config.rate_limit_reads),
        trusted_proxies: config.trusted_proxies,
    };
    let router = router::router(state, admission, MAX_REQUESTS)?;
    let settings = ListenerSettings {
        max_connections: fd_limit::raise(MAX_CONNECTIONS, OTHER_DESCRIPTORS),
        ..ListenerSettings::default()
    };
    Listener::bind(config.bind, settings)?.serve(router, &phases).await;
    let ending = async {
        proxy.close().await;
        broker.close().await;
    };
    if phases.hard_deadline.run_until_cancelled(ending).await.is_none() {
        tracing::warn!("broker connections did not close within the grace period");
    }
    tracer.close().await;
    Ok(())
}

/// Returns what the gateway needs from outside.
fn dependencies(
    broker: &BrokerClients,
    store: &Store,
    authenticator: Option<&Authenticator>,
) -> Vec<Dependency> {
    let mut dependencies = vec![
        // Without RabbitMQ, reads still work and writes are refused in time. Without MongoDB,
        // creates and deletions are still accepted and answered 202.
        Dependency::at_start("rabbitmq_publish", broker.publisher.up())
            .blocked_by(broker.publisher.alarm()),
        Dependency::optional("command_queue", broker.publisher.queue_has_room()),
        Dependency::at_start("rabbitmq_replies", broker.replies.up()),
        Dependency::at_start("mongodb", store.up()),
    ];
    // Without keys it can serve nobody. Once it has had some, they stay valid for a day.
    dependencies.extend(authenticator.map(|it| Dependency::at_start("jwks", it.keys())));
    dependencies
}
