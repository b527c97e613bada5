//! `/livez` and `/readyz`, which tell an orchestrator when to restart a process and when to send it
//! work, and `/metrics` for Prometheus.

use std::{collections::BTreeMap, convert::Infallible, net::SocketAddr, sync::Arc, time::Instant};

use ::http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use bytes::Bytes;
use contracts::{Problem, ProblemKind};
use hyper::body::Body as _;
use serde::Serialize;
use telemetry::{
    logging::AccessLog,
    metrics::{Exporter, Requests, catalog, flag},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    Phases,
    http::{
        Body, Listener, ListenerSettings, ReadPreconditions, RequestBody, body, early_response,
        methods, problem, problem_page,
    },
};

const LIVE: &str = "/livez";
const READY: &str = "/readyz";
const METRICS: &str = "/metrics";

/// Connections of a listener that serves health checks only.
pub(crate) const MAX_CONNECTIONS: usize = 64;

/// A part outside the service that it needs, which is up or down.
#[derive(Clone, Debug)]
pub struct Dependency {
    name: &'static str,
    up: watch::Receiver<bool>,
    /// The reason while something blocks the dependency, although it is up.
    blocked: Option<watch::Receiver<Option<String>>>,
    /// Cancelled once the dependency has been up; `None` if it is always needed.
    has_been_up: Option<CancellationToken>,
}

impl Dependency {
    /// Returns a dependency without which the service can do nothing: while it is down, the service is
    /// not ready.
    #[must_use]
    pub fn always(name: &'static str, up: watch::Receiver<bool>) -> Self {
        Self { name, up, blocked: None, has_been_up: None }
    }

    /// Returns a dependency that is needed to become ready. When it goes down later, the service is
    /// degraded but stays ready: all replicas share the dependency, and a balancer without any replica
    /// would also refuse requests that still work. Must be called in a tokio runtime.
    #[must_use]
    pub fn at_start(name: &'static str, up: watch::Receiver<bool>) -> Self {
        let has_been_up = CancellationToken::new();
        let (mut watched, token) = (up.clone(), has_been_up.clone());
        tokio::spawn(async move {
            if watched.wait_for(|up| *up).await.is_ok() {
                token.cancel();
            }
        });
        Self { name, up, blocked: None, has_been_up: Some(has_been_up) }
    }

    /// Returns a dependency that the service can do without: while it is down, the service is degraded.
    #[must_use]
    pub fn optional(name: &'static str, up: watch::Receiver<bool>) -> Self {
        let has_been_up = CancellationToken::new();
        has_been_up.cancel();
        Self { name, up, blocked: None, has_been_up: Some(has_been_up) }
    }

    /// Makes the dependency count as down, too, while there is a reason.
    #[must_use]
    pub fn blocked_by(self, reason: watch::Receiver<Option<String>>) -> Self {
        Self { blocked: Some(reason), ..self }
    }

    fn is_up(&self) -> bool {
        *self.up.borrow() && self.reason().is_none()
    }

    /// Returns why the dependency is blocked.
    fn reason(&self) -> Option<String> {
        self.blocked.as_ref().and_then(|reason| reason.borrow().clone())
    }

    fn has_been_up(&self) -> bool {
        self.has_been_up.as_ref().is_some_and(CancellationToken::is_cancelled)
    }
}

/// Health of one service.
#[derive(Clone)]
pub struct Health {
    dependencies: Arc<[Dependency]>,
    draining: CancellationToken,
    exporter: Option<Exporter>,
}

#[derive(Serialize)]
struct Readiness {
    status: &'static str,
    dependencies: BTreeMap<&'static str, &'static str>,
    /// Why dependencies are down, as far as others have said so.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    reasons: BTreeMap<&'static str, String>,
}

impl Health {
    /// Returns the health of a service with these dependencies, which is not ready once `draining`.
    #[must_use]
    pub fn new(dependencies: Vec<Dependency>, draining: CancellationToken) -> Self {
        Self { dependencies: dependencies.into(), draining, exporter: None }
    }

    /// Adds `/metrics`.
    #[must_use]
    pub fn with_metrics(self, exporter: Exporter) -> Self {
        Self { exporter: Some(exporter), ..self }
    }

    /// Moves `/metrics` to a listener of its own at `address`, if there is one, and returns the health of the main port. It
    /// is served until `phases` close, with the paths of health checks.
    pub fn with_metrics_at(
        self,
        address: Option<SocketAddr>,
        access_log: AccessLog,
        phases: &Phases,
    ) -> anyhow::Result<Self> {
        let Some(address) = address else { return Ok(self) };
        let listener = Listener::bind_silently(address, listener_settings())?;
        tracing::info!(address = %listener.local_addr()?, "serving metrics");
        let (health, phases) = (self.clone(), phases.clone());
        tokio::spawn(async move { serve(listener, health, access_log, &phases).await });
        Ok(Self { exporter: None, ..self })
    }

    /// Returns the route of `path`, if it is one of those served here.
    #[must_use]
    pub fn route(path: &str) -> Option<&'static str> {
        [LIVE, READY, METRICS].into_iter().find(|route| *route == path)
    }

    /// Returns the response for `path`, or `None` if the request is for the service itself.
    #[must_use]
    pub fn answer(&self, method: &Method, path: &str) -> Option<Response<Body>> {
        if method != Method::GET && method != Method::HEAD {
            return None;
        }
        match path {
            LIVE => Some(json(StatusCode::OK, &serde_json::json!({ "status": "alive" }))),
            READY => {
                let (status, readiness) = self.readiness();
                Some(json(status, &readiness))
            }
            METRICS => {
                let metrics = self.scrape(self.exporter.as_ref()?);
                Some(uncached(telemetry::metrics::CONTENT_TYPE, metrics))
            }
            _ => None,
        }
    }

    /// Renders the metrics, with the state of the dependencies at this moment.
    fn scrape(&self, exporter: &Exporter) -> String {
        catalog::READY.register().set(flag(self.readiness().0 == StatusCode::OK));
        for dependency in self.dependencies.iter() {
            let gauge = catalog::DEPENDENCY_UP.with(&[("dependency", dependency.name)]);
            gauge.set(flag(dependency.is_up()));
        }
        exporter.render()
    }

    fn readiness(&self) -> (StatusCode, Readiness) {
        let mut missing = false;
        let mut degraded = false;
        let mut dependencies = BTreeMap::new();
        let mut reasons = BTreeMap::new();
        for dependency in self.dependencies.iter() {
            let up = dependency.is_up();
            dependencies.insert(dependency.name, if up { "up" } else { "down" });
            reasons.extend(dependency.reason().map(|reason| (dependency.name, reason)));
            degraded |= !up;
            missing |= !up && !dependency.has_been_up();
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
        (code, Readiness { status, dependencies, reasons })
    }
}

fn json(status: StatusCode, body: &impl Serialize) -> Response<Body> {
    // Maps with text keys always serialize.
    let mut response = uncached("application/json", serde_json::to_vec(body).unwrap_or_default());
    *response.status_mut() = status;
    response
}

/// Returns a response that must not be cached.
fn uncached(media_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(body::full(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Binds a port for health checks only.
pub fn bind(address: SocketAddr) -> anyhow::Result<Listener> {
    Listener::bind(address, listener_settings())
}

fn listener_settings() -> ListenerSettings {
    ListenerSettings { max_connections: MAX_CONNECTIONS, ..Default::default() }
}

/// Serves `/livez`, `/readyz`, `/metrics` and the pages of the problem types, and nothing else.
pub async fn serve(listener: Listener, health: Health, access_log: AccessLog, phases: &Phases) {
    let requests = Requests::default();
    let service = tower::service_fn(move |request: Request<RequestBody>| {
        let begun = Instant::now();
        let (method, path) = (request.method(), request.uri().path());
        let route = Health::route(path).or_else(|| problem_page::route(path));
        let answered = early_response(&request)
            .or_else(|| methods::unless_read(method).filter(|_| route.is_some()))
            .or_else(|| health.answer(method, path))
            .or_else(|| problem_page::respond(method, path, request.headers()));
        let mut response = answered.unwrap_or_else(|| {
            let detail = "this port serves health checks and the pages of problem types only";
            problem::response(&Problem::new(ProblemKind::UnknownPath, detail), problem::NO_RETRY)
        });
        if let Some(refusal) = ReadPreconditions::of(&request).and_then(|it| it.refuse(&response)) {
            response = refusal;
        }
        if !request.body().is_end_stream() && request.version() < Version::HTTP_2 {
            // The body is not read, so the connection cannot take another request.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        requests.answered(method, route, response.status(), begun.elapsed());
        let span = tracing::info_span!("request", %method, path);
        span.in_scope(|| access_log.log(route, response.status(), begun.elapsed()));
        std::future::ready(Ok::<_, Infallible>(response))
    });
    listener.serve(service, phases).await;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
        health.dependencies[1].has_been_up.as_ref().unwrap().cancelled().await;
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
    async fn a_blocked_dependency_is_down_and_the_reason_is_named() {
        let (_up, up) = watch::channel(true);
        let (alarm, reason) = watch::channel(None);
        let health = Health::new(
            vec![Dependency::optional("rabbitmq_publish", up).blocked_by(reason)],
            CancellationToken::new(),
        );
        let readiness = || serde_json::to_value(health.readiness().1).unwrap();
        let ready = serde_json::json!({
            "status": "ready",
            "dependencies": { "rabbitmq_publish": "up" },
        });
        assert_eq!(readiness(), ready);
        alarm.send(Some("low on disk".to_owned())).unwrap();
        assert_eq!(status(&health, "/readyz"), 200);
        assert_eq!(
            readiness(),
            serde_json::json!({
                "status": "degraded",
                "dependencies": { "rabbitmq_publish": "down" },
                "reasons": { "rabbitmq_publish": "low on disk" },
            })
        );
        alarm.send(None).unwrap();
        assert_eq!(readiness(), ready);
    }

    #[tokio::test]
    async fn an_optional_dependency_is_not_waited_for() {
        let (_down, down) = watch::channel(false);
        let health =
            Health::new(vec![Dependency::optional("frames", down)], CancellationToken::new());
        assert_eq!(status(&health, "/readyz"), 200);
        assert_eq!(health.readiness().1.status, "degraded");
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

    #[tokio::test]
    async fn metrics_may_have_a_port_of_their_own() {
        let shutdown = crate::Shutdown::manual();
        let phases = shutdown.phases(Duration::ZERO, Duration::from_secs(5));
        let health = Health::new(Vec::new(), CancellationToken::new())
            .with_metrics(Exporter::start("test").unwrap());
        let same = health.clone().with_metrics_at(None, AccessLog::Off, &phases).unwrap();
        assert_eq!(status(&same, "/metrics"), 200);
        // A port that was free a moment ago; nothing else is told of it.
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let main = health.with_metrics_at(Some(address), AccessLog::Off, &phases).unwrap();
        assert!(main.answer(&Method::GET, "/metrics").is_none());
        assert_eq!(status(&main, "/readyz"), 200);
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        assert!(response.contains("messages_ready 1"), "{response}");
        shutdown.request();
    }

    #[tokio::test]
    async fn a_port_for_health_checks_keeps_the_rules_of_http() {
        let shutdown = crate::Shutdown::manual();
        let phases = shutdown.phases(Duration::ZERO, Duration::from_secs(5));
        let health = Health::new(Vec::new(), CancellationToken::new());
        let listener = bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let serving = phases.clone();
        let serving =
            tokio::spawn(async move { serve(listener, health, AccessLog::All, &serving).await });
        let ask = async |request: &str| {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut response = String::new();
            stream.read_to_string(&mut response).await.unwrap();
            response
        };
        let alive = ask("GET /liv%65z HTTP/1.0\r\n\r\n").await;
        assert!(alive.starts_with("HTTP/1.0 200 OK\r\n"), "{alive}");
        for (request, status) in [
            ("GET /livez HTTP/1.1\r\n\r\n", 400),
            ("GET /livez HTTP/1.1\r\nHost: a,b\r\n\r\n", 400),
            ("POST /livez HTTP/1.1\r\nHost: h\r\n\r\n", 405),
            ("BREW /readyz HTTP/1.1\r\nHost: h\r\n\r\n", 405),
            ("PUT /livez HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
            (
                "PUT /livez HTTP/1.1\r\nHost: h\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n\r\n",
                415,
            ),
        ] {
            let refused = ask(request).await;
            assert!(refused.starts_with(&format!("HTTP/1.1 {status} ")), "{request}{refused}");
            assert!(refused.contains("content-type: application/problem+json\r\n"), "{refused}");
            assert_eq!(refused.contains("allow: GET,HEAD,OPTIONS\r\n"), status == 405, "{refused}");
            let has_body = request.starts_with("PUT");
            assert_eq!(refused.contains("connection: close\r\n"), has_body, "{refused}");
        }
        let options = ask("OPTIONS /livez HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert!(options.starts_with("HTTP/1.1 204 No Content\r\n"), "{options}");
        assert!(options.contains("allow: GET,HEAD,OPTIONS\r\n"), "{options}");
        let (head, get) = tokio::join!(
            ask("HEAD /readyz HTTP/1.1\r\nHost: h\r\n\r\n"),
            ask("GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n"),
        );
        let without_date = |head: &str| {
            let lines = head.lines().filter(|line| !line.starts_with("date: "));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let (get, _) = get.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with("\r\n\r\n"), "{head}");
        assert_eq!(without_date(head.trim_end()), without_date(get));
        shutdown.request();
        serving.await.unwrap();
    }
}
