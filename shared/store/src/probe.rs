//! The periodic check that MongoDB responds.

use std::time::Duration;

use mongodb::bson::doc;
use telemetry::OutageLog;
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
            let mut reached = false;
            let outage = OutageLog::new("reach MongoDB");
            while !up.is_closed() {
                ticks.tick().await;
                let database = store.database.clone();
                let ping = async move { database.run_command(doc! { "ping": 1 }).await };
                let response = store.run_within(TIMEOUT, ping).await;
                match &response {
                    Err(error) => outage.failed(error),
                    Ok(_) if !outage.succeeded() && !std::mem::replace(&mut reached, true) => {
                        tracing::info!("MongoDB is available");
                    }
                    Ok(_) => reached = true,
                }
                up.send_replace(response.is_ok());
            }
        });
        receiver
    }
}
