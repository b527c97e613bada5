//! The channel of a task that publishes, on a pooled connection that no other task uses meanwhile.

use deadpool_lapin::Connection as PooledConnection;
use lapin::Channel;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    alarms::Alarms,
    channel::{lost, open_channel},
    connection::{ConnectionPool, close},
    error::BrokerError,
    topology::Purpose,
};

/// A channel for publishing. Dropping it gives the connection back to the pool.
pub(crate) struct PublishChannel {
    connection: PooledConnection,
    pub(crate) channel: Channel,
    _following_alarms: AbortOnDropHandle<()>,
}

impl PublishChannel {
    pub(crate) async fn open(
        pool: &ConnectionPool,
        purpose: Purpose,
        alarms: &Alarms,
    ) -> Result<Self, BrokerError> {
        let connection = pool.get().await?;
        let following_alarms = alarms.follow(&connection);
        match open_channel(&connection, purpose).await {
            Ok(channel) => Ok(Self { connection, channel, _following_alarms: following_alarms }),
            Err(fault) => {
                give_back(connection, &fault);
                Err(fault)
            }
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.connection.status().connected() && self.channel.status().connected()
    }

    /// Returns whether an alarm keeps the broker from reading what is published.
    pub(crate) fn is_blocked(&self) -> bool {
        self.connection.status().blocked() && self.connection.status().connected()
    }

    /// Returns once the channel has ended.
    pub(crate) async fn lost(&self) {
        lost(&self.connection, &self.channel).await;
    }

    /// Closes the connection.
    pub(crate) async fn close(self) {
        close(PooledConnection::take(self.connection)).await;
    }

    /// Gives the connection back after a fault.
    pub(crate) fn give_back(self, fault: &BrokerError) {
        give_back(self.connection, fault);
    }
}

/// Gives a connection back after a fault. The pool itself drops one that has ended. One that
/// stopped answering looks healthy to the pool, so it is closed here.
fn give_back(connection: PooledConnection, fault: &BrokerError) {
    if matches!(fault, BrokerError::Timeout) {
        drop(PooledConnection::take(connection));
    }
}
