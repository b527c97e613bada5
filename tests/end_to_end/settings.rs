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
            ("RABBITMQ_URL", "amqp://user:hunter2@localhost/%2f?verify=verify_none"),
            ("RABBITMQ_URL", "amqps://user:hunter2@localhost/%2f?certfile=/nowhere.pem"),
            ("MONGO_URI", "mongodb://user:hunter2@localhost/?w=1"),
            ("MONGO_URI", "mongodb://user:a?hunter2@localhost"),
            ("MONGO_DATABASE", "local"),
            ("RUST_LOG", "gateway=shout"),
            ("RUST_LOG", "inof"),
            ("RUST_LOG", ","),
            ("RABBITMQ_URL", "amqp://user:hunter2@localhost:99999"),
            ("MONGO_URI", "mongodb://user:hunter2@localhost/?tlsInsecure=true"),
            ("LOG_FORMAT", "xml"),
            ("ACCESS_LOG", "some"),
            ("SHUTDOWN_GRACE_MS", "soon"),
            ("DRAIN_DELAY_MS", "18446744073709551615"),
            (service.bind_variable(), "localhost:8000"),
            (service.bind_variable(), "203.0.113.1:8000"),
            ("SSL_CERT_DIR", "/nowhere"),
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
    for (service, key, value) in [
        (Service::Gateway, "BROADCASTER_URL", "http://user:hunter2@broadcaster:8001"),
        (Service::Gateway, "BROADCASTER_URL", "http//user:hunter2@broadcaster"),
        (Service::Gateway, "BROADCASTER_URL", "ws://b"),
        (Service::Gateway, "CORS_ORIGINS", "*.app.example"),
        (Service::Broadcaster, "ALLOWED_ORIGINS", "https://*"),
        (Service::Gateway, "OTEL_EXPORTER_OTLP_HEADERS", "hunter2"),
        (Service::Gateway, "OTEL_EXPORTER_OTLP_HEADERS", "a b=hunter2"),
        (Service::Broadcaster, "ALLOWED_ORIGINS", "wss://app.example"),
        (Service::StorageWorker, "IMPORT_FROM_URI", "http://user:hunter2@localhost"),
        (Service::StorageWorker, "OTEL_BSP_SCHEDULE_DELAY", "soon"),
        (Service::StorageWorker, "EVENTS_RETENTION_HOURS", "0"),
        (Service::StorageWorker, "REQUIRE_ACTOR", "jwt"),
    ] {
        let mut process = env.service(service).env(key, value);
        if key.starts_with("IMPORT") {
            process = process.arg("import").arg("--from-collection=old");
        }
        let output = process.output(SOON).await?;
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{value}: {printed}");
        assert!(printed.contains(key) && !printed.contains("hunter2"), "{printed}");
    }
    Ok(())
}

#[tokio::test]
async fn an_empty_setting_counts_as_unset_and_one_without_effect_is_named() -> Result<()> {
    let env = TestEnvironment::new().await;
    let empty = ["PREFETCH", "RUST_LOG", "SSL_CERT_FILE", "SSL_CERT_DIR", "ACCESS_LOG"];
    let empty = empty.iter().fold(env.storage_worker(), |it, key| it.env(key, " "));
    let trimmed = empty.env("RABBITMQ_URL", format!(" {}\n", env.rabbitmq_url()));
    let worker = trimmed
        .env("OTEL_SERVICE_NAME", "worker")
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        .env(
            "MONGO_URI",
            format!("{}&socketTimeoutMS=20000&uuidRepresentation=pythonLegacy", env.mongo_uri()),
        )
        .start()
        .await?;
    let broadcaster =
        env.broadcaster().env("TRUSTED_PROXIES", " 10.0.0.0/8 , ::1 ").start().await?;
    let log = worker.log_text() + &broadcaster.log_text();
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("has no effect")).collect();
    for key in [
        "OTEL_SERVICE_NAME",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        "socketTimeoutMS",
        "uuidRepresentation",
        "TRUSTED_PROXIES",
    ] {
        assert!(warnings.iter().any(|line| line.contains(key)), "{key}: {warnings:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_operator_sees_why_the_broker_refuses_whatever_the_filter() -> Result<()> {
    let env = TestEnvironment::new().await;
    let url = env.rabbitmq_url().replace("guest:guest", "guest:wrong");
    for service in SERVICES {
        let refused = env.service(service).env("RABBITMQ_URL", &url);
        let refused = refused.env("RUST_LOG", "service=info").start_unready();
        let refused = refused.await?;
        eventually("the refused password is logged", SOON, async || {
            refused.log_text().contains("ACCESS_REFUSED").then_some(())
        })
        .await;
    }
    Ok(())
}

#[tokio::test]
async fn an_operator_sees_that_the_broker_may_not_offer_the_mechanism() -> Result<()> {
    let env = TestEnvironment::new().await;
    let url = format!("{}?auth_mechanism=ANONYMOUS", env.rabbitmq_url());
    let refused = env.gateway().env("RABBITMQ_URL", &url).start_unready().await?;
    eventually("the mechanism is logged", SOON, async || {
        refused.log_text().contains("may not offer the auth_mechanism").then_some(())
    })
    .await;
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
