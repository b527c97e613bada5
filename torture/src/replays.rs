//! Deliveries that bypass the gateways: copies of real ones, repeated and out of order, and poison.

use anyhow::{Context, Result, ensure};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{FetchedMessage, Management};

/// The exchange, the queue and the routing key of commands.
pub(crate) const COMMANDS: &str = "messages.commands";
/// Queue of copies.
const COPIES: &str = "torture.copies";
/// Maximum numbers of copies that one fault takes, and that are kept for later ones.
const MAX_COPIES: usize = 120;
const MAX_KEPT: usize = 240;
/// Deliveries to mark, more than can be in the queue.
const MAX_WAITING: u32 = 10_000;

/// Takes copies of deliveries and delivers them again.
pub(crate) struct Replays {
    management: Management,
    kept: Vec<FetchedMessage>,
    /// Bodies of the poison.
    pub(crate) poison: Vec<Vec<u8>>,
    /// Number of deliveries that were delivered again.
    pub(crate) replayed: u64,
}

impl Replays {
    pub(crate) fn new(management: Management) -> Self {
        Self { management, kept: Vec::new(), poison: Vec::new(), replayed: 0 }
    }

    /// Begins to copy every delivery. Not while the queue refuses: the copy of a refused delivery would be a
    /// command that no client sent.
    pub(crate) async fn copy(&self) -> Result<()> {
        self.management.declare_queue(COPIES, json!({ "x-max-length": MAX_COPIES })).await?;
        let vhost = self.management.vhost();
        let path = format!("/api/bindings/{vhost}/e/{COMMANDS}/q/{COPIES}");
        let binding = json!({ "routing_key": COMMANDS });
        self.management.call(Method::POST, &path, Some(binding)).await.map(drop)
    }

    /// Ends the copying, and publishes all copies: each up to twice, shuffled, and marked as redelivered, as the
    /// broker marks redeliveries. There must be no consumer in this time: the mark comes from fetching and
    /// requeuing.
    pub(crate) async fn replay(&mut self, seed: u64) -> Result<()> {
        let copies = self.management.take(COPIES, u32::try_from(MAX_COPIES)?).await?;
        self.management.delete_queue(COPIES).await?;
        self.kept.extend(copies);
        let mut rng = StdRng::seed_from_u64(seed);
        self.kept.shuffle(&mut rng);
        self.kept.truncate(MAX_KEPT);
        for _ in 0..2 {
            self.kept.shuffle(&mut rng);
            let share = rng.random_range(self.kept.len() / 2..=self.kept.len());
            for delivery in self.kept.iter().take(share) {
                let properties = Value::Object(delivery.properties.clone());
                self.publish(&delivery.payload, properties).await?;
                self.replayed += 1;
            }
        }
        self.management.peek(COMMANDS, MAX_WAITING).await.map(drop)
    }

    /// Publishes deliveries that cannot be applied.
    pub(crate) async fn poison(&mut self, token: &str) -> Result<()> {
        let bodies =
            [format!("not JSON: {token}"), format!("[{{\"format\":99,\"id\":\"{token}\"}}]")];
        for body in bodies {
            self.publish(body.as_bytes(), json!({ "delivery_mode": 2 })).await?;
            self.poison.push(body.into_bytes());
        }
        Ok(())
    }

    async fn publish(&self, payload: &[u8], properties: Value) -> Result<()> {
        let routed = self
            .management
            .publish(COMMANDS, COMMANDS, payload, properties)
            .await
            .context("a delivery cannot be injected")?;
        ensure!(routed, "an injected delivery reached no queue");
        Ok(())
    }
}
