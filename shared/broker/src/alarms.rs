//! Alarms of the broker (`connection.blocked`): while its memory or its disk is full, it reads nothing
//! from a connection that publishes, and says so only to a connection that tries.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use lapin::{Connection, Event};
use telemetry::metrics::{Gauge, GaugeGuard, catalog};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// Routing key that no queue is bound to. What is published with it only makes the broker tell of an
/// alarm, before the next real publish meets it.
pub(crate) const PROBE_KEY: &str = "messages.probe";

/// Interval of such publishes on an idle connection.
pub(crate) const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// The alarms that block some connections. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Alarms {
    /// The reason while any of the connections is blocked.
    reason: watch::Sender<Option<String>>,
    /// Number of blocked ones. Changes only under the lock of `reason`.
    blocked: Arc<AtomicUsize>,
    gauge: Gauge,
}

/// A blocked connection.
struct Blocked {
    alarms: Alarms,
    _counted: GaugeGuard,
}

impl Default for Alarms {
    fn default() -> Self {
        Self {
            reason: watch::Sender::new(None),
            blocked: Arc::default(),
            gauge: catalog::BROKER_BLOCKED_CONNECTIONS.register(),
        }
    }
}

impl Alarms {
    /// Returns the broker's reason while an alarm blocks any of the connections.
    pub(crate) fn reason(&self) -> watch::Receiver<Option<String>> {
        self.reason.subscribe()
    }

    /// Follows the alarms that block a connection, until the handle is dropped.
    pub(crate) fn follow(&self, connection: &Connection) -> AbortOnDropHandle<()> {
        let mut events = connection.events_listener();
        let alarms = self.clone();
        // A pooled connection may be blocked already.
        let mut blocked =
            connection.status().blocked().then(|| alarms.begin("the broker has an alarm".into()));
        AbortOnDropHandle::new(tokio::spawn(async move {
            while let Some(event) = events.next().await {
                match event {
                    Event::ConnectionBlocked(reason) if blocked.is_none() => {
                        blocked = Some(alarms.begin(reason));
                    }
                    Event::ConnectionUnblocked => blocked = None,
                    _ => {}
                }
            }
        }))
    }

    fn begin(&self, reason: String) -> Blocked {
        self.reason.send_modify(|current| {
            if self.blocked.fetch_add(1, Ordering::Relaxed) == 0 {
                tracing::warn!(
                    reason,
                    "the broker has an alarm and takes no publishes; see `rabbitmq-diagnostics alarms`"
                );
                *current = Some(reason);
            }
        });
        Blocked { alarms: self.clone(), _counted: GaugeGuard::new(&self.gauge) }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        let Alarms { reason, blocked, .. } = &self.alarms;
        reason.send_modify(|reason| {
            if blocked.fetch_sub(1, Ordering::Relaxed) == 1 {
                tracing::info!("no alarm of the broker blocks publishes any more");
                *reason = None;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_reason_while_any_connection_is_blocked() {
        let alarms = Alarms::default();
        let reason = alarms.reason();
        let first = alarms.begin("low on disk".to_owned());
        let second = alarms.begin("low on memory".to_owned());
        assert_eq!(reason.borrow().as_deref(), Some("low on disk"));
        drop(first);
        assert_eq!(reason.borrow().as_deref(), Some("low on disk"));
        drop(second);
        assert_eq!(*reason.borrow(), None);
    }
}
