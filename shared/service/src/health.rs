//! `/livez` and `/readyz`, which tell an orchestrator when to restart a process and when to send it
//! work, and `/metrics` for Prometheus.

use std::{collections::BTreeMap, sync::Arc};

use ::http::{Method, Response, StatusCode, header};
use bytes::Bytes;
use http_body_util::Full;
use serde::Serialize;
use telemetry::metrics::{Exporter, catalog, flag};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const LIVE: &str = "/livez";
const READY: &str = "/readyz";
const METRICS: &str = "/metrics";

/// A part outside the service that it needs, which is up or down.
#[derive(Clone, Debug)]
pub struct Dependency {
    name: &'static str,
    up: watch::Receiver<bool>,
    needed: Needed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needed {
    Always,
    AtStart,
}

impl Dependency {
    /// Returns a dependency without which the service can do nothing: while it is down, the service is
    /// not ready.
    #[must_use]
    pub fn always(name: &'static str, up: watch::Receiver<bool>) -> Self {
        Self { name, up, needed: Needed::Always }
    }

    /// Returns a dependency that is needed to become ready. When it goes down later, the service is
    /// degraded but stays ready: all replicas share the dependency, and a balancer without any replica
    /// would also refuse requests that still work.
    #[must_use]
    pub fn at_start(name: &'static str, up: watch::Receiver<bool>) -> Self {
        Self { name, up, needed: Needed::AtStart }
    }
}

/// Health of one service.
#[derive(Clone, Debug)]
pub struct Health {
    dependencies: Arc<Vec<(Dependency, watch::Receiver<bool>)>>,
    draining: CancellationToken,
    exporter: Option<Exporter>,
}

#[derive(Serialize)]
struct Readiness {
    status: &'static str,
    dependencies: BTreeMap<&'static str, &'static str>,
}

impl Health {
    /// Returns the health of a service with these dependencies, which is not ready once `draining`.
    #[must_use]
    pub fn new(dependencies: Vec<Dependency>, draining: CancellationToken) -> Self {
        let dependencies = dependencies
            .into_iter()
            .map(|dependency| (dependency.clone(), seen_up(dependency.up)))
            .collect();
        Self { dependencies: Arc::new(dependencies), draining, exporter: None }
    }

    /// Adds `/metrics`.
    #[must_use]
    pub fn with_metrics(self, exporter: Exporter) -> Self {
        Self { exporter: Some(exporter), ..self }
    }

    /// Returns the route of `path`, if it is one of those served here.
    #[must_use]
    pub fn route(path: &str) -> Option<&'static str> {
        [LIVE, READY, METRICS].into_iter().find(|route| *route == path)
    }

    /// Returns the response for `path`, or `None` if the request is for the service itself.
    #[must_use]
    pub fn answer(&self, method: &Method, path: &str) -> Option<Response<Full<Bytes>>> {
        if method != Method::GET && method != Method::HEAD {
            return None;
        }
        match path {
            LIVE => Some(json(StatusCode::OK, &serde_json::json!({ "status": "alive" }))),
            READY => {
                let (status, readiness) = self.readiness();
                Some(json(status, &readiness))
            }
            METRICS => self.exporter.as_ref().map(|exporter| text(self.scrape(exporter))),
            _ => None,
        }
    }

    /// Renders the metrics, with the state of the dependencies at this moment.
    fn scrape(&self, exporter: &Exporter) -> String {
        catalog::READY.register().set(flag(self.readiness().0 == StatusCode::OK));
        for (dependency, _) in self.dependencies.iter() {
            let up = *dependency.up.borrow();
            catalog::DEPENDENCY_UP.with(&[("dependency", dependency.name)]).set(flag(up));
        }
        exporter.render()
    }

    fn readiness(&self) -> (StatusCode, Readiness) {
        let mut missing = false;
        let mut degraded = false;
        let mut dependencies = BTreeMap::new();
        for (dependency, seen) in self.dependencies.iter() {
            let up = *dependency.up.borrow();
            dependencies.insert(dependency.name, if up { "up" } else { "down" });
            degraded |= !up;
            missing |= match dependency.needed {
                Needed::Always => !up,
                Needed::AtStart => !*seen.borrow(),
            };
        }
        let (code, status) = if self.draining.is_cancelled() {
            (StatusCode::SERVICE_UNAVAILABLE, "draining")
        } else if missing {
            (StatusCode::SERVICE_UNAVAILABLE, "unready")
        } else if degraded {
            (StatusCode::OK, "degraded")
        } else {
            (StatusCode::OK, "ready")
        };
        (code, Readiness { status, dependencies })
    }
}

/// Returns a receiver that turns true when `up` first does, and stays true.
fn seen_up(mut up: watch::Receiver<bool>) -> watch::Receiver<bool> {
    let (seen, receiver) = watch::channel(*up.borrow());
    tokio::spawn(async move {
        if up.wait_for(|up| *up).await.is_ok() {
            // Fails only without a receiver.
            let _ = seen.send(true);
        }
        // The sender lives until the health is dropped, so that the receiver keeps its value.
        seen.closed().await;
    });
    receiver
}

fn json(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    // Maps with text keys always serialize.
    let body = serde_json::to_vec(body).unwrap_or_default();
    let mut response = uncached("application/json", body);
    *response.status_mut() = status;
    response
}

fn text(metrics: String) -> Response<Full<Bytes>> {
    uncached(telemetry::metrics::CONTENT_TYPE, metrics)
}

/// Returns a response that must not be cached.
fn uncached(media_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(health: &Health, path: &str) -> u16 {
        health.answer(&Method::GET, path).unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn a_dependency_needed_at_start_may_go_down_later() {
        let (broker, broker_up) = watch::channel(false);
        let (database, database_up) = watch::channel(false);
        let draining = CancellationToken::new();
        let health = Health::new(
            vec![
                Dependency::always("rabbitmq", broker_up),
                Dependency::at_start("mongodb", database_up),
            ],
            draining.clone(),
        );
        assert_eq!(status(&health, "/readyz"), 503);
        assert_eq!(status(&health, "/livez"), 200);
        broker.send(true).unwrap();
        database.send(true).unwrap();
        health.dependencies[1].1.clone().wait_for(|seen| *seen).await.unwrap();
        assert_eq!(status(&health, "/readyz"), 200);
        database.send(false).unwrap();
        assert_eq!(status(&health, "/readyz"), 200);
        broker.send(false).unwrap();
        assert_eq!(status(&health, "/readyz"), 503);
        broker.send(true).unwrap();
        draining.cancel();
        assert_eq!(status(&health, "/readyz"), 503);
        assert_eq!(status(&health, "/livez"), 200);
    }

    #[tokio::test]
    async fn other_paths_are_left_to_the_service() {
        let health = Health::new(Vec::new(), CancellationToken::new());
        assert!(health.answer(&Method::GET, "/api/messages").is_none());
        assert!(health.answer(&Method::POST, "/readyz").is_none());
        assert!(health.answer(&Method::GET, "/metrics").is_none(), "no exporter");
    }

    #[tokio::test]
    async fn metrics_show_what_is_up() {
        let (_broker, up) = watch::channel(true);
        let dependencies = vec![Dependency::always("rabbitmq", up)];
        let health = Health::new(dependencies, CancellationToken::new())
            .with_metrics(Exporter::start("test").unwrap());
        let response = health.answer(&Method::GET, "/metrics").unwrap();
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/plain; version=0.0.4");
        let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert!(body.contains("messages_dependency_up{dependency=\"rabbitmq\"} 1"), "{body}");
        assert!(body.contains("messages_ready 1"), "{body}");
    }
}
