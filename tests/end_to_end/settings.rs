//! Configuration, health and logs of the real binaries.

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use testkit::{Service, TestEnvironment, eventually};

const SOON: Duration = Duration::from_secs(20);

const SERVICES: [Service; 3] = [Service::Gateway, Service::StorageWorker, Service::Broadcaster];

#[tokio::test]
async fn a_bad_value_ends_the_process_with_code_78_and_names_its_key() -> Result<()> {
    let env = TestEnvironment::new().await;
    for service in SERVICES {
        for (key, value) in [
            ("RABBITMQ_URL", "http://user:hunter2@localhost"),
            ("MONGO_URI", "postgres://user:hunter2@localhost"),
            ("MONGO_DATABASE", "a/b"),
            ("RUST_LOG", "gateway=shout"),
            ("LOG_FORMAT", "xml"),
            ("ACCESS_LOG", "some"),
            ("SHUTDOWN_GRACE_MS", "soon"),
            ("MONGO_URI", "mongodb://user:hunter2@localhost/?tls=true&tlsCAFile=/nowhere/ca.pem"),
            ("MONGO_URI", "mongodb://user:hunter2@one,two/?directConnection=true"),
            ("SSL_CERT_FILE", "/nowhere/ca.pem"),
        ] {
            let output = env.service(service).env(key, value).output(SOON).await?;
            let printed = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(78), "{service:?} {key}: {printed}");
            assert!(printed.contains(key), "{service:?} {key}: {printed}");
            assert!(!printed.contains("hunter2"), "{service:?} {key}: {printed}");
        }
    }
    for value in
        ["http://user:hunter2@broadcaster:8001", "http//user:hunter2@broadcaster", "ws://b"]
    {
        let output = env.gateway().env("BROADCASTER_URL", value).output(SOON).await?;
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{value}: {printed}");
        assert!(printed.contains("BROADCASTER_URL") && !printed.contains("hunter2"), "{printed}");
    }
    Ok(())
}

#[tokio::test]
async fn help_lists_every_setting() -> Result<()> {
    let env = TestEnvironment::new().await;
    for (service, own) in [
        (Service::Gateway, "WRITE_WAIT_MS"),
        (Service::StorageWorker, "PREFETCH"),
        (Service::Broadcaster, "BROADCAST_INTERVAL_MS"),
    ] {
        let secret = "http://user:hunter2@host";
        let secrets =
            ["RABBITMQ_URL", "MONGO_URI", "BROADCASTER_URL", "OTEL_EXPORTER_OTLP_ENDPOINT"];
        let asked = secrets.iter().fold(env.service(service), |it, key| it.env(key, secret));
        let output = asked.arg("--help").output(SOON).await?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success());
        assert!(!printed.contains("hunter2"), "{service:?}: {printed}");
        for key in ["RABBITMQ_URL", "MONGO_URI", "LOG_FORMAT", "ACCESS_LOG", "DRAIN_DELAY_MS", own]
        {
            assert!(printed.contains(key), "{service:?} does not list {key}: {printed}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn services_wait_for_what_is_away_and_say_what_it_is() -> Result<()> {
    let env = TestEnvironment::new().await;
    for service in SERVICES {
        let process = env
            .service(service)
            .env("RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:1/%2f")
            .env("MONGO_URI", "mongodb://127.0.0.1:1")
            .start_unready()
            .await?;
        let api = process.api()?;
        assert_eq!(api.get("/livez").await?.status, 200);
        let answer = api.get("/readyz").await?;
        assert_eq!(answer.status, 503);
        let body: Value = answer.json()?;
        assert_eq!(body["dependencies"]["mongodb"], "down", "{body}");
        let down = |(name, up): (&String, &Value)| name.starts_with("rabbitmq") && *up == "down";
        assert!(body["dependencies"].as_object().is_some_and(|map| map.iter().any(down)), "{body}");
        assert!(process.terminate(SOON).await?.success());
    }
    Ok(())
}

#[tokio::test]
async fn requests_are_logged_as_configured() -> Result<()> {
    let env = TestEnvironment::new().await;
    let verbose = env.gateway().env("ACCESS_LOG", "all").start().await?;
    let quiet = env.gateway().start().await?;
    for gateway in [&verbose, &quiet] {
        let path = "/api/messages/none";
        gateway.api()?.get(path).await?;
    }
    let line = eventually("the request is logged", SOON, async || {
        let text = verbose.log_text();
        text.lines().find(|line| line.contains("/api/messages/none")).map(ToOwned::to_owned)
    })
    .await;
    let event: Value = serde_json::from_str(&line)?;
    assert_eq!((&event["level"], &event["status"]), (&"INFO".into(), &422.into()), "{line}");
    assert!(event["duration_ms"].is_u64(), "{line}");
    assert_eq!(event["span"]["method"], "GET", "{line}");
    assert!(event["span"]["request.id"].is_string(), "{line}");
    assert!(!quiet.log_text().contains("/api/messages/none"));
    Ok(())
}

#[tokio::test]
async fn logs_are_one_json_object_a_line() -> Result<()> {
    let env = TestEnvironment::new().await;
    let worker = env.storage_worker().start().await?;
    let listening = eventually("the worker logs", SOON, async || {
        let text = worker.log_text();
        text.lines().find(|line| line.contains("listening")).map(ToOwned::to_owned)
    })
    .await;
    let event: Value = serde_json::from_str(&listening)?;
    assert_eq!(event["level"], "INFO");
    assert_eq!(event["address"], worker.address());
    Ok(())
}
