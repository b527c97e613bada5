//! Metrics of the services, and those that dashboard and alerts use.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use contracts::{Message, MessageId};
use end_to_end::{AuthSystem, System, draft, inject};
use reqwest::Method;
use serde_json::Value;
use testkit::{
    Api, PrivateBroker, PrivateMongod, Service, ServiceBuilder, ServiceProcess, Subscriber,
    TestEnvironment, eventually, free_port,
};

const SOON: Duration = Duration::from_secs(10);

/// One scrape: values by name and labels, as they are written.
struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    async fn of(service: &ServiceProcess) -> Result<Self> {
        let answer = service.api()?.get("/metrics").await?;
        ensure!(answer.status == 200, "{} {}", answer.status, answer.text);
        assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4"));
        let samples = answer.text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let samples = samples.map(|line| {
            let (sample, value) = line.rsplit_once(' ').context("no value")?;
            Ok((sample.to_owned(), value.parse()?))
        });
        samples.collect::<Result<_>>().map(Self)
    }

    /// Sums a metric over the series that have all these labels.
    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels = labels.iter().map(|(name, value)| format!("{name}=\"{value}\""));
        let labels: Vec<String> = labels.collect();
        let samples = self.0.iter().filter(|(sample, _)| {
            metric(sample) == name && labels.iter().all(|label| sample.contains(label))
        });
        samples.map(|(_, value)| value).sum()
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(|sample| metric(sample))
    }
}

fn metric(sample: &str) -> &str {
    sample.split('{').next().unwrap_or(sample)
}

/// Returns the name of a histogram, whose samples have names with endings.
fn family(name: &str) -> &str {
    let ending = ["_bucket", "_sum", "_count"].into_iter().find_map(|it| name.strip_suffix(it));
    ending.unwrap_or(name)
}

#[tokio::test]
async fn metrics_follow_what_the_services_do() -> Result<()> {
    let mut system = System::start().await?;
    write(&mut system).await?;
    let gateway = check_gateway(&system).await?;
    let worker = check_worker(&system).await?;
    let broadcaster = check_broadcaster(&system).await?;
    let with_tokens = scrape_with_tokens().await?;

    let scrapes = [&gateway, &worker, &broadcaster, &with_tokens];
    let exported: BTreeSet<&str> = scrapes.into_iter().flat_map(Scrape::names).collect();
    let (mut dashboard, mut alerts) = (queries_of_the_dashboard()?, queries_of_the_alerts()?);
    for (file, queries) in [("the dashboard", &mut dashboard), ("an alert", &mut alerts)] {
        let named = names(queries, OURS);
        assert!(named.len() > 10, "{file}: {named:?}");
        for name in named {
            assert!(exported.contains(&*name), "{file} asks for {name}, which no service exports");
        }
    }
    dashboard.append(&mut alerts);
    let shown = names(&dashboard, OURS);
    for name in exported.iter().filter(|name| name.starts_with(OURS)) {
        let is_shown = shown.iter().any(|shown| family(shown) == family(name));
        assert!(is_shown, "neither the dashboard nor an alert has {name}");
    }
    let selected = selected(&dashboard);
    assert!(selected.len() > 5, "{selected:?}");
    for (name, label) in selected {
        let mut samples = scrapes.into_iter().flat_map(|scrape| scrape.0.keys());
        let found = samples.any(|sample| metric(sample) == name && sample.contains(&label));
        assert!(found, "{name} never has {label}");
    }
    Ok(())
}

/// Returns the metrics of a gateway that requires tokens and limits requests.
async fn scrape_with_tokens() -> Result<Scrape> {
    let limited = |gateway: ServiceBuilder| {
        gateway.env("RATE_LIMIT_READS", "100/60s").env("RATE_LIMIT_WRITES", "100/60s")
    };
    let auth = AuthSystem::start_with(limited).await?;
    let path = format!("/api/messages/{}", MessageId::generate());
    assert_eq!(auth.user("alice").get(&path).await?.status, 404);
    assert_eq!(auth.system.api.with_token("x.y.z").get(&path).await?.status, 401);
    Scrape::of(&auth.system.gateway).await
}

#[tokio::test]
async fn what_is_down_shows() -> Result<()> {
    const LONGER: Duration = Duration::from_secs(30);
    let (broker, mongod) = tokio::try_join!(PrivateBroker::start(), PrivateMongod::start())?;
    let env = TestEnvironment::builder().broker(&broker).mongod(&mongod).build().await;
    let system = System::start_in(env).await?;
    let post = || {
        let request = system.api.request(Method::POST, "/api/messages");
        let request = request.header("prefer", "respond-async");
        system.api.send(request.json(&draft("alice", "bob", "hello")))
    };
    mongod.kill()?;
    assert_eq!(post().await?.status, 202);
    eventually("the worker shows that it can't store", LONGER, async || {
        let worker = Scrape::of(&system.worker).await?;
        let mongodb = worker.sum("messages_dependency_up", &[("dependency", "mongodb")]);
        let (ready, retries) =
            (worker.sum("messages_ready", &[]), worker.sum("messages_store_retries_total", &[]));
        ensure!(mongodb < 0.5 && ready < 0.5 && retries > 0.5, "{mongodb} {ready} {retries}");
        Ok(())
    })
    .await;
    broker.kill()?;
    eventually("the gateway shows that it can't publish", LONGER, async || {
        ensure!(post().await?.status == 503);
        let gateway = Scrape::of(&system.gateway).await?;
        let publishes =
            gateway.sum("messages_dependency_up", &[("dependency", "rabbitmq_publish")]);
        let publish_connections = gateway.sum("messages_publish_connections_open", &[]);
        let refused = gateway.sum("messages_writes_total", &[("outcome", "not_accepted")]);
        ensure!(
            publishes < 0.5 && publish_connections < 0.5 && refused > 0.5,
            "{publishes} {publish_connections} {refused}"
        );
        Ok(())
    })
    .await;
    Ok(())
}

#[tokio::test]
async fn frames_that_a_slow_subscriber_misses_are_counted() -> Result<()> {
    let system = System::start().await?;
    // So large that a few of them fill what the kernel buffers.
    system.create("alice", "bob", &"\u{1f600}".repeat(4000)).await?;
    let broadcaster = system.env.broadcaster().env("BROADCAST_INTERVAL_MS", 10).start().await?;
    let mut slow = Subscriber::connect(&broadcaster.websocket_url("/api/chat")).await?;
    slow.next_text(SOON).await?;
    let has_missed = |scrape: &Scrape| {
        let sum = |name| scrape.sum(name, &[]);
        sum("messages_frames_total") - sum("messages_frames_sent_total")
    };
    // Frames from before it came are not its own.
    let before = has_missed(&Scrape::of(&broadcaster).await?);
    eventually("frames pass it", SOON, async || {
        Scrape::of(&broadcaster).await.is_ok_and(|it| has_missed(&it) > before + 20.0)
    })
    .await;
    eventually("it reads on, and gets a newer one", SOON, async || {
        slow.next_text(SOON).await.is_ok()
            && Scrape::of(&broadcaster)
                .await
                .is_ok_and(|it| it.sum("messages_frames_dropped_total", &[]) >= 20.0)
    })
    .await;
    Ok(())
}

#[test]
fn every_alert_says_what_to_do_and_has_its_heading_in_the_runbook() -> Result<()> {
    let alerts = read("monitoring/prometheus/alerts.yml")?;
    let runbook = read("docs/runbook.md")?;
    let values = |key: &'static str| {
        alerts.lines().filter_map(move |line| line.trim().strip_prefix(key)).collect::<Vec<_>>()
    };
    let names = values("- alert: ");
    assert!(!names.is_empty());
    assert_eq!(values("summary: ").len(), names.len());
    assert_eq!(values("description: ").len(), names.len());
    let anchor = |name: &&str| format!("docs/runbook.md#{}", name.to_lowercase());
    assert_eq!(values("runbook_url: "), names.iter().map(anchor).collect::<Vec<_>>());
    for name in names {
        let heading =
            |line: &str| line.starts_with('#') && line.trim_start_matches('#').trim() == name;
        assert!(runbook.lines().any(heading), "docs/runbook.md has no heading {name}");
    }
    Ok(())
}

/// Makes five creates, one of which is delivered to its worker twice, and one of each other request.
async fn write(system: &mut System) -> Result<()> {
    system.worker.freeze()?;
    let held = system.api.request(Method::POST, "/api/messages").header("prefer", "respond-async");
    let answer = system.api.send(held.json(&draft("alice", "bob", "held"))).await?;
    assert_eq!(answer.status, 202);
    eventually("the frozen worker has it", SOON, async || {
        let queue = system.env.management().queue("messages.commands").await;
        queue.is_ok_and(|queue| queue.messages_unacknowledged == 1)
    })
    .await;
    system.worker.restart().await?;

    let mut messages = Vec::new();
    for number in 0..4 {
        messages.push(system.create("alice", "bob", &format!("number {number}")).await?);
    }
    let edited = system.edit(&messages[0], "edited").await?;
    assert_eq!(system.delete(&messages[1]).await?, 204);
    assert_eq!(system.read(&edited).await?, Some(edited.clone()));
    let nowhere = system.api.get("/nowhere/with-an-id-4711").await?;
    assert_eq!(nowhere.status, 404);
    inject(&system.env, b"not JSON").await
}

async fn check_gateway(system: &System) -> Result<Scrape> {
    let gateway = Scrape::of(&system.gateway).await?;
    let route = |method, route, status| {
        let labels = [("method", method), ("route", route), ("status", status)];
        gateway.sum("messages_http_requests_total", &labels)
    };
    assert_equal(route("POST", "/api/messages", "201"), 4.0);
    assert_equal(route("POST", "/api/messages", "202"), 1.0);
    assert_equal(route("PUT", "/api/messages/{id}", "200"), 1.0);
    assert_equal(route("DELETE", "/api/messages/{id}", "204"), 1.0);
    assert_equal(route("GET", "unmatched", "404"), 1.0);
    assert!(!gateway.0.keys().any(|sample| sample.contains("4711")), "a path became a label");
    let posts = [("method", "POST"), ("route", "/api/messages")];
    assert_equal(gateway.sum("messages_http_request_duration_seconds_count", &posts), 5.0);
    assert_equal(gateway.sum("messages_writes_total", &[("outcome", "created")]), 4.0);
    assert_equal(gateway.sum("messages_writes_total", &[("outcome", "accepted")]), 1.0);
    assert_equal(gateway.sum("messages_write_duration_seconds_count", &[]), 6.0);
    assert_equal(gateway.sum("messages_writes_waiting", &[]), 0.0);
    assert_equal(gateway.sum("messages_publish_confirm_duration_seconds_count", &[]), 7.0);
    assert_equal(gateway.sum("messages_publish_batch_commands_sum", &[]), 7.0);
    assert_equal(gateway.sum("messages_publish_batches_total", &[("result", "confirmed")]), 7.0);
    assert_equal(gateway.sum("messages_publish_connections_open", &[]), 1.0);
    assert_equal(gateway.sum("messages_ready", &[]), 1.0);
    assert_equal(gateway.sum("messages_dependency_up", &[]), 4.0);
    assert!(gateway.sum("messages_store_operation_duration_seconds_count", &[]) >= 2.0);
    Ok(gateway)
}

async fn check_worker(system: &System) -> Result<Scrape> {
    eventually(
        "the invalid delivery is dead-lettered, and every change is in the log",
        SOON,
        async || {
            Scrape::of(&system.worker).await.is_ok_and(|it| {
                it.sum("messages_dead_lettered_total", &[]) > 0.0
                    && it.sum("messages_log_entry_changes_sum", &[]) > 6.5
            })
        },
    )
    .await;
    let worker = Scrape::of(&system.worker).await?;
    assert_equal(worker.sum("messages_commands_total", &[("outcome", "created")]), 5.0);
    assert_equal(worker.sum("messages_commands_total", &[("outcome", "edited")]), 1.0);
    assert_equal(worker.sum("messages_commands_total", &[("outcome", "deleted")]), 1.0);
    assert_equal(worker.sum("messages_deliveries_total", &[]), 8.0);
    assert_equal(worker.sum("messages_redeliveries_total", &[]), 1.0);
    assert_equal(worker.sum("messages_dead_lettered_total", &[]), 1.0);
    assert_equal(worker.sum("messages_command_queue_latency_seconds_count", &[]), 7.0);
    assert_equal(worker.sum("messages_apply_group_commands_sum", &[]), 7.0);
    assert!(worker.sum("messages_apply_duration_seconds_count", &[]) > 0.0);
    assert!(
        worker.sum("messages_store_operation_duration_seconds_count", &[("result", "ok")]) > 0.0
    );
    assert!(worker.sum("messages_replies_total", &[("result", "sent")]) > 0.0);
    assert_equal(worker.sum("messages_store_retries_total", &[]), 0.0);
    assert_equal(worker.sum("messages_log_entry_changes_sum", &[]), 7.0);
    assert!(worker.sum("messages_log_append_duration_seconds_count", &[]) > 0.0);
    assert!(worker.sum("messages_hints_total", &[("result", "sent")]) > 0.0);
    assert_equal(worker.sum("messages_dependency_up", &[]), 6.0);
    Ok(worker)
}

async fn check_broadcaster(system: &System) -> Result<Scrape> {
    let broadcaster = system.env.broadcaster().env("BROADCAST_INTERVAL_MS", 50).start().await?;
    let url = broadcaster.websocket_url("/api/chat");
    let mut stays = Subscriber::connect(&url).await?;
    let mut leaves = Subscriber::connect(&url).await?;
    for _ in 0..3 {
        stays.next_json::<Message>(SOON).await?;
        leaves.next_json::<Message>(SOON).await?;
    }
    drop(leaves);
    eventually("one has left", SOON, async || {
        Scrape::of(&broadcaster).await.is_ok_and(|it| {
            let closed = it.sum("messages_sessions_closed_total", &[]);
            it.sum("messages_subscribers", &[]) < 2.0 && closed > 0.5
        })
    })
    .await;
    let broadcaster = Scrape::of(&broadcaster).await?;
    assert_equal(broadcaster.sum("messages_subscribers", &[]), 1.0);
    assert_equal(broadcaster.sum("messages_leader", &[]), 1.0);
    let (frames, sent) = (
        broadcaster.sum("messages_frames_total", &[]),
        broadcaster.sum("messages_frames_sent_total", &[]),
    );
    // A frame that comes during the scrape may already count as sent, and not yet as received.
    assert!(frames >= 3.0 && sent >= 6.0 && sent <= 2.0 * (frames + 1.0), "{frames} {sent}");
    assert_equal(broadcaster.sum("messages_sessions_closed_total", &[]), 1.0);
    assert!(broadcaster.sum("messages_samples_total", &[("result", "sampled")]) >= 3.0);
    assert!(broadcaster.sum("messages_sample_duration_seconds_count", &[]) >= 3.0);
    let upgraded = [("route", "/api/chat"), ("status", "101")];
    assert_equal(broadcaster.sum("messages_http_requests_total", &upgraded), 2.0);
    Ok(broadcaster)
}

/// Counts are whole numbers: two of them differ by nothing or by 1 at least.
#[track_caller]
fn assert_equal(found: f64, expected: f64) {
    assert!((found - expected).abs() < 0.5, "{found} is not {expected}");
}

/// Prefix of the services' metrics.
const OURS: &str = "messages_";
/// Prefix of the broker's metrics that have a label `queue`.
const THE_BROKERS: &str = "rabbitmq_";

fn queries_of_the_dashboard() -> Result<Vec<String>> {
    fn collect(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(object) => {
                let query = object.get("expr").and_then(Value::as_str);
                found.extend(query.map(str::to_owned));
                object.values().for_each(|value| collect(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| collect(value, found)),
            _ => {}
        }
    }
    let dashboard = serde_json::from_str(&read("monitoring/grafana/dashboards/messages.json")?)?;
    let mut found = Vec::new();
    collect(&dashboard, &mut found);
    Ok(found)
}

fn queries_of_the_alerts() -> Result<Vec<String>> {
    Ok(vec![read("monitoring/prometheus/alerts.yml")?])
}

/// Returns the words of queries that begin with a prefix.
fn names(queries: &[String], prefix: &str) -> BTreeSet<String> {
    let not_a_letter = |letter: char| !letter.is_ascii_alphanumeric() && letter != '_';
    let words = queries.iter().flat_map(|query| query.split(not_a_letter));
    words.filter(|word| word.starts_with(prefix)).map(str::to_owned).collect()
}

/// Returns the label values that queries select or exclude: the metric, and the label as a scrape writes it.
/// Leaves out patterns, and labels whose values depend on traffic or Prometheus.
fn selected(queries: &[String]) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for (query, at) in queries
        .iter()
        .flat_map(|query| query.match_indices('{').map(move |(at, _)| (query.as_str(), at)))
    {
        let (before, selector) = query.split_at(at);
        let name = before.rsplit(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        let name = name.into_iter().next().unwrap_or_default();
        let mut rest = selector.trim_start_matches('{');
        while name.starts_with(OURS)
            && let Some((label, from_value)) = rest.split_once('"')
            && let Some((value, next)) = from_value.split_once('"')
        {
            let label = label.trim_matches([',', ' ']);
            let label = label.strip_suffix("!=").or_else(|| label.strip_suffix('='));
            if let Some(label) = label.filter(|label| !["namespace", "status"].contains(label)) {
                found.insert((name.to_owned(), format!("{label}=\"{value}\"")));
            }
            rest = if next.starts_with('}') { "" } else { next };
        }
    }
    found
}

#[tokio::test]
async fn the_broker_has_the_metrics_that_the_dashboard_and_the_alerts_name() -> Result<()> {
    let broker = PrivateBroker::start_with_prometheus().await?;
    let env = TestEnvironment::builder().broker(&broker).build().await;
    let system = System::start_in(env).await?;
    inject(&system.env, b"no JSON").await?;
    let mut wanted = names(&queries_of_the_dashboard()?, THE_BROKERS);
    wanted.extend(names(&queries_of_the_alerts()?, THE_BROKERS));
    ensure!(wanted.len() > 1, "{wanted:?}");
    // As monitoring/prometheus/prometheus.yml asks for them.
    let url = format!("{}/metrics/detailed?family=queue_coarse_metrics", broker.prometheus_url());
    eventually("the dead letter is counted", SOON, async || {
        let text = reqwest::get(&url).await?.error_for_status()?.text().await?;
        let of = |name: &str, queue: &str| {
            let queue = format!("queue=\"{queue}\"");
            let mut lines = text.lines().filter(|line| metric(line) == name);
            let line = lines.find(|line| line.contains(&queue));
            line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        };
        for name in &wanted {
            let (commands, dead) = (of(name, "messages.commands"), of(name, "messages.dead"));
            ensure!(commands == Some(0), "{name} of messages.commands is {commands:?}");
            ensure!(dead == Some(1), "{name} of messages.dead is {dead:?}");
        }
        Ok(())
    })
    .await;
    Ok(())
}

fn read(path: &str) -> Result<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no parent")?;
    std::fs::read_to_string(root.join(path)).with_context(|| path.to_owned())
}

#[tokio::test]
async fn a_long_poll_is_no_slow_request() -> Result<()> {
    const WAIT_S: f64 = 2.0;
    let env = TestEnvironment::new().await;
    let (_worker, broadcaster) =
        tokio::try_join!(env.storage_worker().start(), env.broadcaster().start())?;
    let gateway = env.gateway().env("BROADCASTER_URL", broadcaster.url()).start().await?;
    let api = gateway.api()?;
    let request = api.request(Method::GET, "/api/events?user_id=alice");
    let request = request.header("prefer", format!("wait={WAIT_S}"));
    // A replica that has just begun may not have read the log yet.
    let answer = eventually("a page of events", SOON, async || {
        let answer = api.send(request.try_clone()?).await.ok()?;
        (answer.status == 200).then_some(answer)
    })
    .await;
    assert_eq!(answer.header("preference-applied"), Some("wait=2"));
    let scrape = Scrape::of(&gateway).await?;
    let events = [("route", "/api/events")];
    let count = scrape.sum("messages_http_request_duration_seconds_count", &events);
    let seconds = scrape.sum("messages_http_request_duration_seconds_sum", &events);
    assert!(count >= 1.0 && seconds < WAIT_S, "{seconds} s");
    Ok(())
}

#[tokio::test]
async fn metrics_can_have_a_port_of_their_own() -> Result<()> {
    let env = TestEnvironment::new().await;
    for service in Service::ALL {
        let metrics = format!("127.0.0.1:{}", free_port()?);
        let process = env.service(service).env("METRICS_BIND", &metrics).start_unready().await?;
        assert_eq!(process.api()?.get("/metrics").await?.status, 404, "{service:?}");
        assert_eq!(process.api()?.get("/livez").await?.status, 200, "{service:?}");
        let answer = Api::new(&format!("http://{metrics}"))?.get("/metrics").await?;
        assert!(answer.text.contains("messages_ready "), "{service:?}: {}", answer.text);
        let same = env.service(service).env(service.bind_variable(), &metrics);
        let output = same.env("METRICS_BIND", &metrics).output(SOON).await?;
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{service:?}: {printed}");
        assert!(printed.contains("METRICS_BIND"), "{service:?}: {printed}");
    }
    Ok(())
}
