//! The periodic check that MongoDB responds.

use std::time::Duration;

use mongodb::bson::doc;
use telemetry::error_chain;
use tokio::{sync::watch, time::interval};

use crate::Store;

/// Interval between two checks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Maximum duration of a check.
const TIMEOUT: Duration = Duration::from_secs(2);

impl Store {
    /// Pings the server every second, and publishes whether it responded.
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
                let response = store.run_within(TIMEOUT, ping).await;
                let changed = logged.replace(response.is_ok()) != Some(response.is_ok());
                match &response {
                    Ok(_) if changed => tracing::info!("MongoDB is available"),
                    Err(error) if changed => {
                        tracing::warn!(error = %error_chain(error), "MongoDB is unavailable");
                    }
                    _ => {}
                }
                up.send_replace(response.is_ok());
            }
        });
        receiver
    }
}
