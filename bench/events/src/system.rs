//! The system that is measured: fresh services for each part, so that memory depends on that part alone.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use bench_common::{cpu_time, memory_kib};
use serde_json::Value;
use testkit::{PrivateBroker, PrivateMongod, ServiceProcess, TestEnvironment, eventually};

/// Maximum number of subscribers of the broadcaster.
const MAX_CONNECTIONS: u32 = 19_300;

/// Longest wait until a broadcaster follows the log of changes.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A gateway, storage workers and a broadcaster.
pub(crate) struct System {
    gateway: ServiceProcess,
    workers: Vec<ServiceProcess>,
    broadcaster: ServiceProcess,
    servers: [(&'static str, u32); 2],
    // Dropped after the services.
    env: TestEnvironment,
}

impl System {
    pub(crate) async fn start(
        broker: &PrivateBroker,
        mongod: &PrivateMongod,
        workers: usize,
    ) -> Result<Self> {
        let env = TestEnvironment::builder().broker(broker).mongod(mongod).build().await;
        let mut started = Vec::new();
        for _ in 0..workers {
            started.push(env.storage_worker().start().await?);
        }
        Ok(Self {
            gateway: env.gateway().start().await?,
            workers: started,
            broadcaster: start_broadcaster(&env).await?,
            servers: [("RabbitMQ", broker.pid()), ("MongoDB", mongod.pid())],
            env,
        })
    }

    /// Starts another broadcaster in the place of the one so far.
    pub(crate) async fn restart_broadcaster(&mut self) -> Result<()> {
        self.broadcaster.terminate(Duration::from_secs(30)).await?;
        self.broadcaster = start_broadcaster(&self.env).await?;
        Ok(())
    }

    pub(crate) fn gateway(&self) -> Result<SocketAddr> {
        Ok(self.gateway.address().parse()?)
    }

    pub(crate) fn broadcaster(&self) -> Result<SocketAddr> {
        Ok(self.broadcaster.address().parse()?)
    }

    /// Returns the position behind everything so far.
    pub(crate) async fn position(&self) -> Result<String> {
        position(&self.broadcaster).await
    }

    /// Returns the broadcaster's resident memory in KiB.
    pub(crate) fn memory_kib(&self) -> Result<u64> {
        memory_kib(self.broadcaster.pid(), "VmRSS")
    }

    /// Returns the processor time of each process so far, that of this program included.
    pub(crate) fn cpu_time(&self) -> Result<BTreeMap<&'static str, Duration>> {
        let workers = self.workers.iter().map(|worker| ("storage worker", worker.pid()));
        let services = [
            ("gateway", self.gateway.pid()),
            ("broadcaster", self.broadcaster.pid()),
            ("load", std::process::id()),
        ];
        let mut times = BTreeMap::new();
        for (name, pid) in services.into_iter().chain(workers).chain(self.servers) {
            *times.entry(name).or_default() += cpu_time(pid)?;
        }
        Ok(times)
    }
}

async fn start_broadcaster(env: &TestEnvironment) -> Result<ServiceProcess> {
    let broadcaster = env.broadcaster().env("MAX_CONNECTIONS", MAX_CONNECTIONS).start().await?;
    eventually("the broadcaster follows the log", START_LIMIT, async || {
        position(&broadcaster).await.map(drop)
    })
    .await;
    Ok(broadcaster)
}

async fn position(broadcaster: &ServiceProcess) -> Result<String> {
    let answer = broadcaster.api()?.get("/api/events?user_id=nobody").await?;
    let page: Value = answer.json()?;
    let position = page.get("position").and_then(Value::as_str);
    Ok(position.with_context(|| format!("no position: {page}"))?.to_owned())
}
