//! The periodic check that MongoDB answers.

use std::time::Duration;

use mongodb::bson::doc;
use telemetry::error_chain;
use tokio::{sync::watch, time::interval};

use crate::Store;

/// Interval between two checks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Maximum time the server may take to answer one.
const TIMEOUT: Duration = Duration::from_secs(2);

impl Store {
    /// Pings the server every second, and publishes whether it answered.
    #[must_use]
    pub fn up(&self) -> watch::Receiver<bool> {
        let (up, receiver) = watch::channel(false);
        let store = self.clone();
        tokio::spawn(async move {
            let mut ticks = interval(INTERVAL);
            let mut logged = None;
            while !up.is_closed() {
                ticks.tick().await;
                let database = store.database.clone();
                let ping = async move { database.run_command(doc! { "ping": 1 }).await };
                let answer = store.run_within(TIMEOUT, ping).await;
                if logged.replace(answer.is_ok()) != Some(answer.is_ok()) {
                    match &answer {
                        Ok(_) => tracing::info!("MongoDB is available"),
                        Err(error) => {
                            tracing::warn!(error = %error_chain(error), "MongoDB is unavailable");
                        }
                    }
                }
                up.send_replace(answer.is_ok());
            }
        });
        receiver
    }
}
