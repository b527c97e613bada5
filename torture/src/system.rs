//! The system under torture: real servers and services of its own, a proxy on every link.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use testkit::{
    Api, PrivateBroker, PrivateMongod, Proxy, ServiceBuilder, ServiceProcess, TestEnvironment,
};

use crate::{
    options::Lie,
    plan::{Link, REPLICAS},
    tokens::Tokens,
};

/// Wait for outcomes, short so that faults lead to many 202s.
pub(crate) const WRITE_WAIT: Duration = Duration::from_millis(1_500);

/// Time that the renewal of the log's epoch may take.
const RENEWAL_LIMIT: Duration = Duration::from_secs(20);

/// Everything that runs. Services are dropped before their servers.
pub(crate) struct System {
    pub(crate) gateways: Vec<Member>,
    pub(crate) workers: Vec<Member>,
    pub(crate) broadcasters: Vec<Member>,
    pub(crate) tokens: Tokens,
    pub(crate) env: TestEnvironment,
    pub(crate) mongod: PrivateMongod,
    pub(crate) broker: PrivateBroker,
}

/// A service and the links to it and from it.
pub(crate) struct Member {
    pub(crate) process: ServiceProcess,
    to_broker: Arc<Proxy>,
    to_mongod: Arc<Proxy>,
    /// The proxy that its clients connect to.
    from_clients: Arc<Proxy>,
    from_clients_url: String,
}

impl System {
    /// Starts everything. `liar`: the program that replaces the workers, and its lie.
    pub(crate) async fn start(liar: Option<(PathBuf, Lie)>, tokens: Tokens) -> Result<Self> {
        let (broker, mongod) = tokio::try_join!(PrivateBroker::start(), PrivateMongod::start())?;
        let env = TestEnvironment::builder().broker(&broker).mongod(&mongod).build().await;
        let mut workers = Vec::new();
        let mut gateways = Vec::new();
        let mut broadcasters = Vec::new();
        for _ in 0..REPLICAS {
            let mut worker = env.storage_worker();
            if let Some((program, lie)) = &liar {
                worker = worker.program(program).env(Lie::VARIABLE, lie.name());
            }
            let start = async |service| Member::start(&env, tokens.settings(service)).await;
            workers.push(start(worker).await?);
            let broadcaster = start(env.broadcaster()).await?;
            let gateway = env.gateway().env("WRITE_WAIT_MS", WRITE_WAIT.as_millis());
            let gateway = gateway.env("BROADCASTER_URL", &broadcaster.from_clients_url);
            gateways.push(start(gateway).await?);
            broadcasters.push(broadcaster);
        }
        Ok(Self { gateways, workers, broadcasters, tokens, env, mongod, broker })
    }

    /// Returns clients of the gateways, without a token.
    pub(crate) fn client_apis(&self) -> Result<Vec<Api>> {
        self.gateways.iter().map(|gateway| Api::new(&gateway.from_clients_url)).collect()
    }

    /// Returns clients of the gateways for a user who may do what concerns itself.
    pub(crate) fn plain_apis_of(&self, user: &str) -> Result<Vec<Api>> {
        let apis = self.client_apis()?.into_iter();
        Ok(apis.map(|api| self.tokens.of_user(api, user)).collect())
    }

    /// Returns clients of the gateways for a user who may do everything.
    pub(crate) fn apis_of(&self, user: &str) -> Result<Vec<Api>> {
        let apis = self.client_apis()?.into_iter();
        Ok(apis.map(|api| self.tokens.trusted(api, user)).collect())
    }

    /// Returns the URLs at which subscribers connect to each broadcaster.
    pub(crate) fn subscriber_urls(&self) -> impl Iterator<Item = String> {
        self.broadcasters.iter().map(|broadcaster| {
            let address = broadcaster.from_clients.address();
            format!("ws://{address}/api/chat")
        })
    }

    /// Returns the addresses at which clients follow events: directly, and through the gateways.
    pub(crate) fn event_bases(&self) -> Vec<String> {
        let members = self.broadcasters.iter().chain(&self.gateways);
        members.map(|member| member.from_clients_url.clone()).collect()
    }

    /// Gives the log of changes a new epoch, as an operator does.
    pub(crate) async fn renew_epoch(&self) -> Result<()> {
        let command = self.env.storage_worker().arg("events").arg("new-epoch");
        let output = command.output(RENEWAL_LIMIT).await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the epoch was not renewed: {said}");
        Ok(())
    }

    pub(crate) fn services(&self) -> impl Iterator<Item = &ServiceProcess> {
        let members = self.gateways.iter().chain(&self.workers).chain(&self.broadcasters);
        members.map(|member| &member.process)
    }

    pub(crate) fn gateway(&mut self, replica: usize) -> Result<&mut ServiceProcess> {
        let gateway = self.gateways.get_mut(replica).context("no such gateway")?;
        Ok(&mut gateway.process)
    }

    pub(crate) fn worker(&mut self, replica: usize) -> Result<&mut ServiceProcess> {
        Ok(&mut self.workers.get_mut(replica).context("no such worker")?.process)
    }

    pub(crate) fn broadcaster(&mut self, replica: usize) -> Result<&mut ServiceProcess> {
        Ok(&mut self.broadcasters.get_mut(replica).context("no such broadcaster")?.process)
    }

    pub(crate) fn link(&self, link: Link) -> Result<Arc<Proxy>> {
        let proxy = match link {
            Link::ClientsToGateway(number) => self.gateways.get(number).map(|it| &it.from_clients),
            Link::SubscriberToBroadcaster(number) => {
                self.broadcasters.get(number).map(|it| &it.from_clients)
            }
            Link::GatewayToBroker(number) => self.gateways.get(number).map(|it| &it.to_broker),
            Link::GatewayToMongod(number) => self.gateways.get(number).map(|it| &it.to_mongod),
            Link::WorkerToBroker(number) => self.workers.get(number).map(|it| &it.to_broker),
            Link::WorkerToMongod(number) => self.workers.get(number).map(|it| &it.to_mongod),
            Link::BroadcasterToBroker(number) => {
                self.broadcasters.get(number).map(|it| &it.to_broker)
            }
            Link::BroadcasterToMongod(number) => {
                self.broadcasters.get(number).map(|it| &it.to_mongod)
            }
        };
        proxy.cloned().with_context(|| format!("there is no link {link}"))
    }
}

impl Member {
    async fn start(env: &TestEnvironment, service: ServiceBuilder) -> Result<Self> {
        let (to_broker, rabbitmq_url) = Proxy::in_front_of(&env.rabbitmq_url()).await?;
        let (to_mongod, mongo_uri) = Proxy::in_front_of(env.mongo_uri()).await?;
        let service = service.env("RABBITMQ_URL", rabbitmq_url).env("MONGO_URI", mongo_uri);
        let process = service.on_own_port()?.start().await?;
        let (from_clients, from_clients_url) = Proxy::in_front_of(&process.url()).await?;
        let from_clients = Arc::new(from_clients);
        let (to_broker, to_mongod) = (Arc::new(to_broker), Arc::new(to_mongod));
        Ok(Self { process, to_broker, to_mongod, from_clients, from_clients_url })
    }
}
