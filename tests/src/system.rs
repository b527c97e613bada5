//! A gateway and a storage-worker in the environment of one test.

use std::time::Duration;

use anyhow::{Result, ensure};
use contracts::Message;
use serde_json::{Value, json};
use store::{Store, StoreConfig, StoreSettings};
use testkit::{Answer, Api, ServiceProcess, TestEnvironment, eventually};

const SOON: Duration = Duration::from_secs(20);

/// Policy that limits the queue of commands.
const FULL: &str = "full";

/// A running system. The services are dropped before the environment that they use.
pub struct System {
    /// The storage-worker.
    pub worker: ServiceProcess,
    /// The gateway.
    pub gateway: ServiceProcess,
    /// A client of the gateway.
    pub api: Api,
    /// The environment of both.
    pub env: TestEnvironment,
}

impl System {
    /// Starts both on the shared servers.
    pub async fn start() -> Result<Self> {
        Self::start_in(TestEnvironment::new().await).await
    }

    /// Starts both in this environment.
    pub async fn start_in(env: TestEnvironment) -> Result<Self> {
        let (worker, gateway) =
            tokio::try_join!(env.storage_worker().start(), env.gateway().start())?;
        let api = gateway.api()?;
        Ok(Self { worker, gateway, api, env })
    }

    /// Stops the worker, limits the queue of commands and fills it. Returns the gateway that found it full, and the
    /// refusal.
    pub async fn fill_queue(&self) -> Result<(ServiceProcess, Answer)> {
        let gateway = self.env.gateway().env("WRITE_WAIT_MS", 0).start().await?;
        let api = gateway.api()?;
        self.worker.terminate(SOON).await?;
        let smallest = json!({ "max-length-bytes": 1 });
        self.env.management().set_policy(FULL, "^messages.commands$", smallest).await?;
        let refusal = eventually("the queue is full", SOON, async || {
            let answer = api.post("/api/messages", &draft("alice", "bob", "one more")).await?;
            ensure!(answer.status == 503, "{}", answer.status);
            Ok(answer)
        })
        .await;
        Ok((gateway, refusal))
    }

    /// Lets a filled queue take commands again.
    pub async fn lift_queue_limit(&self) -> Result<()> {
        self.env.management().clear_policy(FULL).await
    }

    /// Creates a message and waits until it is stored.
    pub async fn create(&self, from: &str, to: &str, content: &str) -> Result<Message> {
        created(&self.api, from, to, content).await
    }

    /// Reads a message; `None` for 404.
    pub async fn read(&self, message: &Message) -> Result<Option<Message>> {
        let answer = self.api.get(&path(message)).await?;
        match answer.status {
            200 => answer.json().map(Some),
            404 => Ok(None),
            _ => anyhow::bail!("{} {}", answer.status, answer.text),
        }
    }

    /// Lists what one user wrote to another.
    pub async fn list(&self, from: &str, to: &str) -> Result<Vec<Message>> {
        let query = format!("/api/messages?from_user_id={from}&to_user_id={to}");
        let answer = self.api.get(&query).await?;
        ensure!(answer.status == 200, "{} {}", answer.status, answer.text);
        answer.json()
    }

    /// Replaces a message's content.
    pub async fn edit(&self, message: &Message, content: &str) -> Result<Message> {
        let answer = self.api.put(&path(message), &json!({ "content": content })).await?;
        ensure!(answer.status == 200, "{} {}", answer.status, answer.text);
        answer.json()
    }

    /// Deletes a message and gives the answer's status.
    pub async fn delete(&self, message: &Message) -> Result<u16> {
        Ok(self.api.delete(&path(message)).await?.status)
    }
}

/// Creates a message through any gateway and waits until it is stored.
pub async fn created(api: &Api, from: &str, to: &str, content: &str) -> Result<Message> {
    let answer = api.post("/api/messages", &draft(from, to, content)).await?;
    ensure!(answer.status == 201, "{} {}", answer.status, answer.text);
    answer.json()
}

/// Opens the store of the services in this environment, for data that only a worker writes.
pub async fn open_store(env: &TestEnvironment) -> Result<Store> {
    open_store_at(env, env.mongo_uri()).await
}

/// Does the same on these servers.
pub async fn open_store_at(env: &TestEnvironment, uri: &str) -> Result<Store> {
    let config = StoreConfig { uri: uri.parse()?, database: env.database().parse()? };
    Ok(Store::new(StoreSettings::new(config, "test")).await?)
}

/// Returns the body of a `POST /api/messages`.
#[must_use]
pub fn draft(from: &str, to: &str, content: &str) -> Value {
    json!({ "from_user_id": from, "to_user_id": to, "content": content })
}

fn path(message: &Message) -> String {
    format!("/api/messages/{}", message.id)
}
