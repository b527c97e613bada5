//! Broker and database over TLS, with certificates of an authority that no system knows.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use contracts::Message;
use end_to_end::created;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{
    PrivateBroker, PrivateMongod, Service, ServiceBuilder, Subscriber, TestEnvironment, TlsFiles,
    eventually,
};

const SOON: Duration = Duration::from_secs(30);

/// Servers that speak TLS, and the environment on them, which goes first.
struct TlsServers {
    env: TestEnvironment,
    broker: PrivateBroker,
    mongod: PrivateMongod,
    files: TlsFiles,
}

impl TlsServers {
    /// Starts them. `mongod` gets the files of its certificates.
    async fn start(mongod: impl AsyncFnOnce(&TlsFiles) -> Result<PrivateMongod>) -> Result<Self> {
        let files = TlsFiles::make()?;
        let (broker, mongod) =
            tokio::try_join!(PrivateBroker::start_with_tls(&files), mongod(&files))?;
        let env = TestEnvironment::builder().broker(&broker).mongod(&mongod).build().await;
        Ok(Self { env, broker, mongod, files })
    }
}

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
    let servers = TlsServers::start(PrivateMongod::start_with_tls).await?;
    let TlsServers { env, broker, mongod, files, .. } = &servers;
    let authority = files.authority.display();
    let untrusting = format!("{}&tls=true", mongod.url());
    let trusting = format!("{untrusting}&tlsCAFile={authority}");
    let start = async |service| {
        let builder = over_tls(env, broker, service)?;
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
            over_tls(env, broker, service)?.env("MONGO_URI", &untrusting).start_unready().await?;
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

#[tokio::test]
async fn a_certificate_is_enough_to_log_in_to_both() -> Result<()> {
    let mut servers = TlsServers::start(PrivateMongod::start_standalone_with_tls).await?;
    let TlsServers { env, broker, mongod, files, .. } = &mut servers;
    let (user, vhost) = (TlsFiles::CLIENT, env.vhost());
    let no_password = json!({ "password_hash": "", "tags": "" });
    let all = json!({ "configure": ".*", "write": ".*", "read": ".*" });
    let management = env.management();
    management.call(Method::PUT, &format!("/api/users/{user}"), Some(no_password)).await?;
    let permissions = format!("/api/permissions/{vhost}/{user}");
    management.call(Method::PUT, &permissions, Some(all)).await?;
    let (subject, database) = (format!("CN={user}"), env.database());
    store::admin::create_certificate_user(&mongod.url(), &subject, "readWrite", database).await?;
    mongod.require_users().await?;

    let (authority, client) = (files.authority.display(), files.client.display());
    let key = files.client_key.display();
    let broker_url = |parameters: &str| {
        let address = broker.tls_address();
        format!("amqps://{address}/{vhost}?cacertfile={authority}{parameters}")
    };
    let mongo_uri = format!("{}?tls=true&tlsCAFile={authority}", mongod.url());
    let x509 = format!("&authMechanism=MONGODB-X509&tlsCertificateKeyFile={client}");
    // Certificate and key may be in one file or in two.
    let one_file = broker_url(&format!("&certfile={client}&auth_mechanism=EXTERNAL"));
    let two_files =
        broker_url(&format!("&certfile={client}&keyfile={key}&auth_mechanism=external"));
    let start = async |service, url: &str| {
        let service = env.service(service).env("RABBITMQ_URL", url);
        service.env("MONGO_URI", format!("{mongo_uri}{x509}")).start().await
    };
    let (_worker, gateway, broadcaster) = tokio::try_join!(
        start(Service::StorageWorker, &one_file),
        start(Service::Gateway, &two_files),
        start(Service::Broadcaster, &one_file)
    )?;
    let message = created(&gateway.api()?, "alice", "bob", "hello").await?;
    let mut subscriber = Subscriber::connect(&broadcaster.websocket_url("/api/chat")).await?;
    assert_eq!(subscriber.next_json::<Message>(SOON).await?, message);

    // Without it, neither lets anybody in.
    let url = broker_url("").replace("amqps://", &format!("amqps://{user}:guest@"));
    let stranger = env.storage_worker().env("RABBITMQ_URL", url);
    let stranger = stranger.env("MONGO_URI", &mongo_uri).start_unready().await?;
    eventually("the broker refuses the user without a certificate", SOON, async || {
        stranger.log_text().contains("ACCESS_REFUSED").then_some(())
    })
    .await;
    Ok(())
}

/// Each of these says in an operator's words what is wrong.
#[tokio::test]
async fn a_wrong_port_is_named_as_such() -> Result<()> {
    let servers = TlsServers::start(PrivateMongod::start_with_tls).await?;
    let TlsServers { env, broker, mongod, .. } = &servers;
    let (amqps, http) = (broker.tls_address(), broker.management().base().replace("http://", ""));
    let amqp = broker.url().replace("amqp://guest:guest@", "").replace("/%2f", "");
    let mongodb = mongod.url().replace("mongodb://", "");
    let mongodb = mongodb.split('/').next().context("no address")?;
    // Both ports wait for more, and hang up then.
    let not_amqp = "which needs amqps://";
    for (key, value, expected) in [
        ("RABBITMQ_URL", format!("amqp://{amqps}/%2f"), not_amqp),
        ("RABBITMQ_URL", format!("amqp://{http}/%2f"), not_amqp),
        ("RABBITMQ_URL", format!("amqps://{amqp}/%2f"), "does not speak TLS"),
        ("RABBITMQ_URL", format!("amqps://{http}/%2f"), "does not speak TLS"),
        ("MONGO_URI", format!("mongodb://{amqp}"), "is it MongoDB"),
        ("MONGO_URI", format!("mongodb://{amqps}/?tls=true"), "certificate"),
        ("MONGO_URI", format!("mongodb://{amqp}/?tls=true"), "is it a TLS port"),
        ("MONGO_URI", format!("mongodb://{mongodb}/?replicaSet=other"), "replicaSet"),
    ] {
        let service = env.storage_worker().env(key, &value).start_unready().await?;
        eventually(&format!("{value} is explained"), SOON, async || {
            let log = service.log_text();
            ensure!(log.contains(expected), "{value}: {log}");
            Ok(())
        })
        .await;
        let log = service.log_text();
        for internal in ["Kind:", "labels", "Nom(", "Error {", "Some(", "Topology:"] {
            assert!(!log.contains(internal), "{value}: {internal} in {log}");
        }
    }
    Ok(())
}
