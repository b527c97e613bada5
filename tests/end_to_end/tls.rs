//! Broker and database over TLS, with certificates of an authority that no system knows.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use contracts::Message;
use end_to_end::created;
use serde_json::Value;
use testkit::{
    PrivateBroker, PrivateMongod, Service, ServiceBuilder, Subscriber, TestEnvironment, TlsFiles,
    eventually,
};

const SOON: Duration = Duration::from_secs(30);

/// A service that reaches both over TLS.
fn over_tls(
    env: &TestEnvironment,
    broker: &PrivateBroker,
    service: Service,
) -> Result<ServiceBuilder> {
    let plain = env.rabbitmq_url();
    let (credentials, vhost) = plain
        .strip_prefix("amqp://")
        .and_then(|rest| rest.split_once('@'))
        .and_then(|(credentials, rest)| Some((credentials, rest.split_once('/')?.1)))
        .context("an AMQP URL was expected")?;
    let url = format!("amqps://{credentials}@{}/{vhost}", broker.tls_address());
    Ok(env.service(service).env("RABBITMQ_URL", url))
}

#[tokio::test]
async fn all_three_services_trust_an_authority_of_your_own_and_no_other() -> Result<()> {
    let dir = testkit::settings::scratch_dir("tls-")?;
    let files = TlsFiles::make(dir.path())?;
    let (broker, mongod) = tokio::try_join!(
        PrivateBroker::start_with_tls(&files),
        PrivateMongod::start_with_tls(&files)
    )?;
    let env = TestEnvironment::builder().broker(&broker).mongod(&mongod).build().await;
    let authority = files.authority.display();
    let untrusting = format!("{}&tls=true", mongod.url());
    let trusting = format!("{untrusting}&tlsCAFile={authority}");
    let start = async |service| {
        let builder = over_tls(&env, &broker, service)?;
        builder
            .env("MONGO_URI", &trusting)
            .env("SSL_CERT_FILE", authority.to_string())
            .start()
            .await
    };
    let (_worker, gateway, broadcaster) = tokio::try_join!(
        start(Service::StorageWorker),
        start(Service::Gateway),
        start(Service::Broadcaster)
    )?;
    let message = created(&gateway.api()?, "alice", "bob", "hello").await?;
    let mut subscriber = Subscriber::connect(&broadcaster.websocket_url("/api/chat")).await?;
    assert_eq!(subscriber.next_json::<Message>(SOON).await?, message);

    // Who does not trust the authority sends it nothing.
    for service in Service::ALL {
        let suspicious =
            over_tls(&env, &broker, service)?.env("MONGO_URI", &untrusting).start_unready().await?;
        eventually("it says why it does not connect", SOON, async || {
            let log = suspicious.log_text();
            let complaints = log.lines().filter(|line| line.to_lowercase().contains("certificate"));
            let (database, broker): (Vec<_>, Vec<_>) =
                complaints.partition(|line| line.contains("cannot reach MongoDB"));
            ensure!(!database.is_empty() && !broker.is_empty(), "{log}");
            Ok(())
        })
        .await;
        let answer = suspicious.api()?.get("/readyz").await?;
        assert_eq!(answer.status, 503, "{}", answer.text);
        let body: Value = answer.json()?;
        let dependencies = body["dependencies"].as_object().context("no dependencies")?;
        let servers = |name: &str| name == "mongodb" || name.starts_with("rabbitmq");
        for (name, state) in dependencies.iter().filter(|(name, _)| servers(name)) {
            assert_eq!(state, "down", "{name}");
        }
    }
    Ok(())
}
