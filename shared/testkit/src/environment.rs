//! The environment of one test: a vhost and a database of its own, and services that use them.

#![expect(clippy::panic, reason = "a test without its servers can only fail, and says what to run")]

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use tempfile::TempDir;
use uuid::Uuid;

use crate::{
    Management, PrivateBroker, PrivateMongod, PrivateReplicaSet, Service, ServiceBuilder,
    broker::REPORT_LAG,
    management::segment,
    settings::{self, required},
};

/// Longest clean-up that a test waits for.
const CLEANUP_LIMIT: Duration = Duration::from_secs(10);

/// A vhost and a database of one test's own, removed on drop. Services started in it are declared
/// after it, so that they are dropped before it.
#[derive(Debug)]
pub struct TestEnvironment {
    amqp_base: String,
    management: Management,
    mongo_uri: String,
    database: String,
    bin_dir: String,
    owns_vhost: bool,
    owns_database: bool,
    dir: TempDir,
}

/// Chooses the servers under a [`TestEnvironment`]; those that `cargo xtask test` started by default.
#[derive(Debug, Default)]
#[must_use = "nothing is made until it is built"]
pub struct TestEnvironmentBuilder {
    broker: Option<(String, Management)>,
    mongo_uri: Option<String>,
    standalone: bool,
}

impl TestEnvironment {
    /// An environment on the shared broker and the shared replica set.
    ///
    /// # Panics
    ///
    /// Panics if the servers are missing or do not answer.
    pub async fn new() -> Self {
        Self::builder().build().await
    }

    /// An environment on other servers.
    pub fn builder() -> TestEnvironmentBuilder {
        TestEnvironmentBuilder::default()
    }

    /// The AMQP URL of the test's vhost.
    #[must_use]
    pub fn rabbitmq_url(&self) -> String {
        format!("{}/{}", self.amqp_base, segment(self.management.vhost()))
    }

    /// The management API, for the test's vhost.
    #[must_use]
    pub fn management(&self) -> &Management {
        &self.management
    }

    /// The test's vhost.
    #[must_use]
    pub fn vhost(&self) -> &str {
        self.management.vhost()
    }

    /// The MongoDB URI.
    #[must_use]
    pub fn mongo_uri(&self) -> &str {
        &self.mongo_uri
    }

    /// The test's database.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.database
    }

    /// A directory of the test's own; the services' logs are there.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A service with the settings of this environment. Start it: `env.service(…).start().await?`.
    pub fn service(&self, service: Service) -> ServiceBuilder {
        ServiceBuilder::new(service, &self.bin_dir, self.dir())
            .env("RABBITMQ_URL", self.rabbitmq_url())
            .env("MONGO_URI", &self.mongo_uri)
            .env("MONGO_DATABASE", &self.database)
    }

    /// A gateway.
    pub fn gateway(&self) -> ServiceBuilder {
        self.service(Service::Gateway)
    }

    /// A storage-worker.
    pub fn storage_worker(&self) -> ServiceBuilder {
        self.service(Service::StorageWorker)
    }

    /// A broadcaster.
    pub fn broadcaster(&self) -> ServiceBuilder {
        self.service(Service::Broadcaster)
    }

    async fn clean_up(
        management: Option<Management>,
        database: Option<(String, String)>,
    ) -> Result<()> {
        if let Some(management) = management {
            management.delete_vhost().await?;
        }
        if let Some((uri, database)) = database {
            store::admin::drop_database(&uri, &database).await?;
        }
        Ok(())
    }
}

impl TestEnvironmentBuilder {
    /// The test's own broker, which it may stop, freeze or kill.
    pub fn broker(mut self, broker: &PrivateBroker) -> Self {
        self.broker = Some((broker.url(), broker.management().clone()));
        self
    }

    /// The test's own database server, which it may stop, freeze or kill.
    pub fn mongod(mut self, mongod: &PrivateMongod) -> Self {
        self.mongo_uri = Some(mongod.url());
        self
    }

    /// The test's own replica set, whose members it may stop, freeze or kill.
    pub fn replica_set(mut self, set: &PrivateReplicaSet) -> Self {
        self.mongo_uri = Some(set.url());
        self
    }

    /// The shared standalone server instead of the shared replica set.
    pub fn standalone_mongod(mut self) -> Self {
        self.standalone = true;
        self
    }

    /// Makes the vhost. The database is made by the first write to it.
    ///
    /// # Panics
    ///
    /// Panics if the servers are missing or do not answer.
    pub async fn build(self) -> TestEnvironment {
        match self.try_build().await {
            Ok(environment) => environment,
            Err(error) => panic!("no environment for this test: {error:#}"),
        }
    }

    async fn try_build(self) -> Result<TestEnvironment> {
        let (owns_vhost, owns_database) = (self.broker.is_none(), self.mongo_uri.is_none());
        let (amqp_url, management) = if let Some(broker) = self.broker {
            broker
        } else {
            let base = required(settings::MANAGEMENT_URL)?;
            (required(settings::RABBITMQ_URL)?, Management::new(&base, REPORT_LAG)?)
        };
        let mongo_uri = match self.mongo_uri {
            Some(uri) => uri,
            None if self.standalone => required(settings::STANDALONE_MONGO_URI)?,
            None => required(settings::MONGO_URI)?,
        };
        let name = format!("test-{}", Uuid::new_v4().simple());
        let (amqp_base, _) =
            amqp_url.rsplit_once('/').context("an AMQP URL with a vhost was expected")?;
        let management = management.for_vhost(&name);
        management.create_vhost().await?;
        Ok(TestEnvironment {
            amqp_base: amqp_base.to_owned(),
            management,
            mongo_uri,
            database: name,
            bin_dir: required(settings::BIN_DIR)?,
            owns_vhost,
            owns_database,
            dir: settings::scratch_dir("test-")?,
        })
    }
}

impl Drop for TestEnvironment {
    /// On a thread with a runtime of its own, for the test's cannot be waited on from here. What is
    /// on a test's own server goes with that server.
    fn drop(&mut self) {
        let management = self.owns_vhost.then(|| self.management.clone());
        let database = self.owns_database.then(|| (self.mongo_uri.clone(), self.database.clone()));
        let cleaner = std::thread::spawn(move || -> Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                tokio::time::timeout(CLEANUP_LIMIT, Self::clean_up(management, database)).await?
            })
        });
        match cleaner.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => eprintln!("a test's vhost or database is left over: {error:#}"),
            Err(_) => eprintln!("a test's vhost or database is left over: the clean-up panicked"),
        }
    }
}
