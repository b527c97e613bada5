//! This system: one of each service, built for release.

use std::path::Path;

use anyhow::Result;
use testkit::{
    Service, ServiceBuilder, ServiceProcess,
    settings::{BIN_DIR, required},
};

use crate::{servers::Servers, subject::Subject, usage::Watched};

/// Name in the results.
pub(crate) const NAME: &str = "this system";
/// The database of its messages.
pub(crate) const DATABASE: &str = "messages";

/// The services. They are killed on drop.
pub(crate) struct System {
    gateway: ServiceProcess,
    worker: ServiceProcess,
    broadcaster: ServiceProcess,
}

impl System {
    /// Starts them with these settings, each of which all get.
    pub(crate) async fn start(
        servers: &Servers,
        dir: &Path,
        settings: &[(String, String)],
    ) -> Result<Self> {
        let bin_dir = required(BIN_DIR)?;
        let service = |service| {
            let builder = ServiceBuilder::new(service, &bin_dir, dir)
                .env("RABBITMQ_URL", servers.broker.url())
                .env("MONGO_URI", servers.mongod.url())
                .env("MONGO_DATABASE", DATABASE);
            settings.iter().fold(builder, |builder, (name, value)| builder.env(name, value))
        };
        let (worker, broadcaster) = tokio::try_join!(
            service(Service::StorageWorker).start(),
            service(Service::Broadcaster).start()
        )?;
        let gateway =
            service(Service::Gateway).env("BROADCASTER_URL", broadcaster.url()).start().await?;
        Ok(Self { gateway, worker, broadcaster })
    }

    pub(crate) fn subject(&self, servers: &Servers) -> Subject {
        let [broker, mongod] = servers.watched();
        let watched = [self.services().to_vec(), vec![broker, mongod]].concat();
        Subject { name: NAME.to_owned(), url: self.gateway.url(), watched }
    }

    fn services(&self) -> [Watched; 3] {
        [("gateway", &self.gateway), ("worker", &self.worker), ("broadcaster", &self.broadcaster)]
            .map(|(name, service)| Watched { name: name.to_owned(), pid: service.pid() })
    }
}
