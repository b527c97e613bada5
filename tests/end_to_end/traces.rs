//! Traces: from a request over its command to the write, as a collector sees them.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use contracts::{Command, Message, TraceParent};
use end_to_end::{
    Collector, ReceivedSpan, System, at_millis, create_command, created, draft, inject_traced,
};
use futures_util::future::join_all;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{
    Api, Service, ServiceBuilder, ServiceProcess, TestEnvironment, TlsFiles, eventually,
};
use uuid::Uuid;

use crate::dead_letters::tool;

const SOON: Duration = Duration::from_secs(20);

/// The spans of a create, from the top down.
const CREATE: [&str; 5] = [
    "POST /api/messages",
    "publish messages.commands",
    "process messages.commands",
    "insert messages",
    APPEND,
];

/// The span of the append to the log of changes, which follows the write.
const APPEND: &str = "append events";

/// Trace context of a caller.
struct Caller {
    trace_id: String,
    span_id: String,
}

impl Caller {
    fn new() -> Self {
        let trace_id = Uuid::new_v4().simple().to_string();
        let span_id = trace_id.chars().take(16).collect();
        Self { trace_id, span_id }
    }

    fn traceparent(&self, flags: &str) -> String {
        format!("00-{}-{}-{flags}", self.trace_id, self.span_id)
    }

    /// A request in this trace, which is recorded.
    fn request(&self, api: &Api, method: Method, path: &str) -> reqwest::RequestBuilder {
        api.request(method, path).header("traceparent", self.traceparent("01"))
    }
}

fn traced(builder: ServiceBuilder, endpoint: &str) -> ServiceBuilder {
    builder
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .env("OTEL_BSP_SCHEDULE_DELAY", 100)
        .env("RUST_LOG", "info,gateway=debug")
}

async fn start(env: TestEnvironment, endpoint: &str) -> Result<System> {
    let (worker, gateway) = tokio::try_join!(
        traced(env.storage_worker(), endpoint).start(),
        traced(env.gateway(), endpoint).start()
    )?;
    let api = gateway.api()?;
    Ok(System { worker, gateway, api, env })
}

/// Waits for the spans of a trace with these names, each the parent of the next. The append has the parent of the write.
async fn chain(collector: &Collector, trace_id: &str, names: &[&str]) -> Vec<ReceivedSpan> {
    let spans = eventually("the whole trace arrives", SOON, async || {
        let spans = collector.trace(trace_id);
        ensure!(spans.len() >= names.len(), "{spans:#?}");
        Ok(spans)
    })
    .await;
    let found: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(found, names);
    for pair in spans.windows(2) {
        let parent = if pair[1].name == APPEND { &pair[0].parent } else { &pair[0].id };
        assert_eq!(pair[1].parent, *parent, "{pair:#?}");
    }
    spans
}

/// The events that a service logged about a request, by its id.
fn logged(service: &ServiceProcess, request_id: &str) -> Vec<Value> {
    let events = service.log_text();
    let events = events.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.filter(|event| event["span"]["request.id"] == request_id).collect()
}

#[tokio::test]
async fn one_trace_shows_a_request_its_command_and_the_write() -> Result<()> {
    let collector = Collector::start().await?;
    let system = start(TestEnvironment::new().await, collector.endpoint()).await?;
    let caller = Caller::new();
    let request = caller
        .request(&system.api, Method::POST, "/api/messages")
        .header("x-request-id", "traced-1")
        .json(&draft("alice", "bob", "hello"));
    let answer = system.api.send(request).await?;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let message: Message = answer.json()?;

    let spans = chain(&collector, &caller.trace_id, &CREATE).await;
    assert_eq!(spans[0].parent, caller.span_id);
    let services = spans.iter().map(|span| span.service.as_str()).collect::<Vec<_>>();
    assert_eq!(
        services,
        ["gateway", "gateway", "storage-worker", "storage-worker", "storage-worker"]
    );
    let kinds = spans.iter().map(|span| span.kind).collect::<Vec<_>>();
    let expected = [
        SpanKind::Server,
        SpanKind::Producer,
        SpanKind::Consumer,
        SpanKind::Client,
        SpanKind::Client,
    ];
    assert_eq!(kinds, expected);
    for (span, key, value) in [
        (0, "http.response.status_code", "201"),
        (0, "http.route", "/api/messages"),
        (0, "request.id", "traced-1"),
        (1, "messaging.destination.name", "messages.commands"),
        (2, "messaging.system", "rabbitmq"),
        (2, "outcome", "created"),
        (3, "db.system.name", "mongodb"),
        (3, "db.operation.name", "insert"),
        (3, "db.collection.name", "messages"),
        (4, "db.operation.name", "insert"),
        (4, "db.collection.name", "events"),
    ] {
        assert_eq!(spans[span].attributes.get(key).map(String::as_str), Some(value), "{spans:#?}");
    }
    assert!(spans.iter().all(|span| !span.failed && span.times.0 <= span.times.1), "{spans:#?}");

    // The log names the same trace beside the request.
    let events = logged(&system.gateway, "traced-1");
    assert!(!events.is_empty());
    assert!(events.iter().all(|event| event["span"]["trace_id"] == caller.trace_id), "{events:?}");

    // Edits and deletions are traced like that, too.
    let path = format!("/api/messages/{}", message.id);
    for (method, status, write) in [(Method::PUT, 200, true), (Method::DELETE, 204, false)] {
        let caller = Caller::new();
        let request = caller.request(&system.api, method.clone(), &path);
        let request = if write { request.json(&json!({ "content": "again" })) } else { request };
        assert_eq!(system.api.send(request).await?.status, status);
        eventually("the whole trace arrives", SOON, async || {
            let spans = collector.trace(&caller.trace_id);
            let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
            ensure!(names.contains(&"update messages"), "{names:?}");
            ensure!(names.contains(&APPEND), "{names:?}");
            ensure!(names.contains(&format!("{method} /api/messages/{{id}}").as_str()));
            ensure!(names.contains(&"find messages") == write, "{names:?}");
            Ok(())
        })
        .await;
    }
    Ok(())
}

#[tokio::test]
async fn a_write_for_many_shows_in_the_trace_of_each() -> Result<()> {
    let collector = Collector::start().await?;
    let system = start(TestEnvironment::new().await, collector.endpoint()).await?;
    let callers = [Caller::new(), Caller::new()];
    let contents = ["with a trace that cannot be read", "traced", "traced", "not traced"];
    let commands: Vec<Command> = contents
        .iter()
        .map(|content| create_command("alice", "bob", content))
        .collect::<Result<_>>()?;
    let [first, second] = callers.each_ref().map(|caller| caller.traceparent("01"));
    let header = json!(["00-of-no-use", first, second]);
    inject_traced(&system.env, &serde_json::to_vec(&commands)?, Some(header)).await?;
    for caller in &callers {
        let spans = chain(&collector, &caller.trace_id, &CREATE[2..]).await;
        assert_eq!(spans[0].parent, caller.span_id);
        for write in &spans[1..] {
            let together = write.attributes.get("db.operation.batch.size");
            assert_eq!(together.map(String::as_str), Some("4"), "{spans:#?}");
        }
    }
    assert_eq!(system.list("alice", "bob").await?.len(), 4);
    let spans = collector.spans();
    // A retry on a busy machine is another span, but none is of another trace.
    let is_traced = |span: &ReceivedSpan| callers.iter().any(|it| it.trace_id == span.trace_id);
    assert!(spans.iter().all(is_traced), "{spans:#?}");
    Ok(())
}

#[tokio::test]
async fn of_many_writes_at_once_each_keeps_its_own_trace() -> Result<()> {
    const WRITES: usize = 240;
    let collector = Collector::start().await?;
    let system = start(TestEnvironment::new().await, collector.endpoint()).await?;
    assert!(system.worker.terminate(SOON).await?.success());
    let callers: Vec<Caller> = (0..WRITES).map(|_| Caller::new()).collect();
    let (recorded, others) = callers.split_at(WRITES * 3 / 4);
    let post = |caller: &Caller, flags| {
        let request = system.api.request(Method::POST, "/api/messages");
        let request = request.header("traceparent", caller.traceparent(flags));
        let request = request.header("prefer", "respond-async");
        system.api.send(request.json(&draft("alice", "bob", "hello")))
    };
    let posts = recorded.iter().map(|caller| post(caller, "01"));
    let posts = posts.chain(others.iter().map(|caller| post(caller, "00")));
    for answer in join_all(posts).await {
        assert_eq!(answer?.status, 202);
    }
    // They came together, and no delivery holds more traces than fit into a frame.
    let deliveries = system.env.management().peek("messages.commands", 300).await?;
    assert!(deliveries.len() < WRITES / 2, "{}", deliveries.len());
    for delivery in &deliveries {
        let traced = delivery.headers.get("traceparent").and_then(Value::as_array);
        // A void between them is shown as a word of the broker's.
        let traced = traced.into_iter().flatten().filter_map(Value::as_str);
        let traced = traced.filter(|value| value.parse::<TraceParent>().is_ok()).count();
        assert!(traced <= 50, "{traced}: {:?}", delivery.headers);
    }
    let worker = traced(system.env.storage_worker(), collector.endpoint()).start().await?;
    for caller in recorded {
        chain(&collector, &caller.trace_id, &CREATE).await;
    }
    assert_eq!(collector.spans().len(), CREATE.len() * recorded.len());
    drop(worker);
    Ok(())
}

#[tokio::test]
async fn what_the_caller_does_not_record_is_not_sent() -> Result<()> {
    let collector = Collector::start().await?;
    let system = start(TestEnvironment::new().await, collector.endpoint()).await?;
    let silent = Caller::new();
    let post = |traceparent: &str, request_id: &str| {
        let request = system.api.request(Method::POST, "/api/messages");
        request
            .header("traceparent", traceparent)
            .header("x-request-id", request_id)
            .json(&draft("alice", "bob", "hello"))
    };
    assert_eq!(system.api.send(post(&silent.traceparent("00"), "silent")).await?.status, 201);
    // The log still says which trace it is.
    let events = logged(&system.gateway, "silent");
    assert!(events.iter().any(|event| event["span"]["trace_id"] == silent.trace_id), "{events:?}");

    // An invalid traceparent counts as absent: the request begins a trace.
    let caller = Caller::new();
    let malformed = caller.traceparent("01").to_uppercase();
    assert_eq!(system.api.send(post(&malformed, "malformed")).await?.status, 201);
    let root = eventually("a trace of its own arrives", SOON, async || {
        collector.spans().into_iter().find(|span| span.name == CREATE[0])
    })
    .await;
    assert_eq!(root.parent, "");
    assert_eq!(root.attributes.get("request.id").map(String::as_str), Some("malformed"));
    chain(&collector, &root.trace_id, &CREATE).await;
    assert!(collector.trace(&silent.trace_id).is_empty());
    // Probes are not traced: only these spans were sent.
    assert_eq!(collector.spans().len(), CREATE.len());
    Ok(())
}

#[tokio::test]
async fn a_dead_letter_keeps_its_trace() -> Result<()> {
    let collector = Collector::start().await?;
    let system = start(TestEnvironment::new().await, collector.endpoint()).await?;
    let caller = Caller::new();
    let mut command = create_command("alice", "bob", "too late")?;
    command.issued_at = at_millis(command.issued_at, -7 * 86_400_000)?;
    let header = Some(json!(caller.traceparent("01")));
    inject_traced(&system.env, &serde_json::to_vec(&[&command])?, header.clone()).await?;
    let spans = chain(&collector, &caller.trace_id, &CREATE[2..3]).await;
    assert_eq!(spans[0].attributes.get("outcome").map(String::as_str), Some("dead_lettered"));
    let events = system.worker.log_text();
    let logged =
        events.lines().find(|line| line.contains("dead-lettered")).context("nothing is logged")?;
    let logged: Value = serde_json::from_str(logged)?;
    assert_eq!(logged["span"]["trace_id"], caller.trace_id, "{logged}");
    assert_eq!(logged["span"]["command.id"], command.id.to_string(), "{logged}");

    // The dead letter keeps its trace, and belongs to it again when an operator replays it.
    let dead_lettered_again = async |times: usize| {
        eventually("it is dead-lettered", SOON, async || {
            let dead_letters = system.env.management().peek("messages.dead", 10).await?;
            ensure!(dead_letters.len() == 1, "{dead_letters:?}");
            ensure!(
                dead_letters[0].headers.get("traceparent") == header.as_ref(),
                "{dead_letters:?}"
            );
            ensure!(collector.trace(&caller.trace_id).len() == times);
            Ok(())
        })
        .await;
    };
    dead_lettered_again(1).await;
    let (replayed, printed) = tool(&system.env, &["replay", "--all"]).await?;
    assert!(replayed, "{printed}");
    dead_lettered_again(2).await;
    Ok(())
}

#[tokio::test]
async fn spans_are_sent_over_tls_to_a_collector_that_is_trusted() -> Result<()> {
    let files = TlsFiles::make()?;
    let collector = Collector::start_with_tls(&files).await?;
    let env = TestEnvironment::new().await;
    let worker = env.storage_worker().start().await?;
    let suspicious = traced(env.gateway(), collector.endpoint()).start().await?;
    created(&suspicious.api()?, "alice", "bob", "hello").await?;
    eventually("it says that it does not trust the collector", SOON, async || {
        suspicious.log_text().contains("the TLS handshake with")
    })
    .await;
    assert!(collector.spans().is_empty());
    let trusting = traced(env.gateway(), collector.endpoint());
    let trusting = trusting.env("SSL_CERT_FILE", files.authority.display()).start().await?;
    created(&trusting.api()?, "alice", "bob", "hello").await?;
    eventually("spans arrive", SOON, async || collector.spans().len() == 2).await;
    drop(worker);
    Ok(())
}

#[tokio::test]
async fn what_is_left_is_sent_when_the_service_stops() -> Result<()> {
    let collector = Collector::start().await?;
    let env = TestEnvironment::new().await;
    let later =
        |builder| traced(builder, collector.endpoint()).env("OTEL_BSP_SCHEDULE_DELAY", 600_000);
    let (worker, gateway) =
        tokio::try_join!(later(env.storage_worker()).start(), later(env.gateway()).start())?;
    created(&gateway.api()?, "alice", "bob", "hello").await?;
    assert!(collector.spans().is_empty());
    assert!(gateway.terminate(SOON).await?.success());
    assert!(worker.terminate(SOON).await?.success());
    let mut names: Vec<String> = collector.spans().into_iter().map(|span| span.name).collect();
    names.sort_unstable();
    let mut expected = CREATE;
    expected.sort_unstable();
    assert_eq!(names, expected);
    Ok(())
}

#[tokio::test]
async fn a_collector_that_is_away_or_silent_stops_nothing() -> Result<()> {
    // A listener that does not accept is silent; a port without one refuses.
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let refusing = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    for address in [silent.local_addr()?, refusing] {
        let system = start(TestEnvironment::new().await, &format!("http://{address}")).await?;
        for number in 0..50 {
            system.create("alice", "bob", &format!("message {number}")).await?;
        }
        for service in [&system.gateway, &system.worker] {
            eventually("it says so", SOON, async || {
                service.log_text().contains("cannot send spans")
            })
            .await;
            let begun = Instant::now();
            assert!(service.terminate(SOON).await?.success());
            // Its connections' ends and the last try take their time: 2 s each at the most.
            assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
            // Once, however many batches there were.
            let complaints = service.log_text().matches("cannot send spans").count();
            assert_eq!(complaints, 1);
        }
    }
    Ok(())
}

#[tokio::test]
async fn bad_settings_of_traces_name_their_key_and_empty_ones_count_as_unset() -> Result<()> {
    let env = TestEnvironment::new().await;
    for service in [Service::Gateway, Service::StorageWorker] {
        for (key, value) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:secret@localhost:4318"),
            ("OTEL_TRACES_SAMPLER", "sometimes"),
            ("OTEL_TRACES_SAMPLER_ARG", "2"),
        ] {
            let output = env.service(service).env(key, value).output(SOON).await?;
            let printed = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(78), "{service:?} {key}: {printed}");
            assert!(printed.contains(key), "{service:?} {key}: {printed}");
            assert!(!printed.contains("secret"), "{service:?} {key}: {printed}");
        }
        let empty = env
            .service(service)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", "")
            .env("OTEL_TRACES_SAMPLER", "")
            .env("OTEL_TRACES_SAMPLER_ARG", "")
            .env("OTEL_SERVICE_NAME", "");
        let running = empty.start().await?;
        assert!(!running.log_text().contains("sending spans"));
    }
    Ok(())
}
