//! The gateway's connections to RabbitMQ.

use anyhow::Context;
use broker::{BrokerUrl, ExclusiveConsumer, Publisher};
use contracts::Reply;
use service::DedicatedRuntime;
use store::Store;

use crate::commands::pending::Pending;

/// The publisher of commands and the consumer of replies, on a thread of their own: under overload
/// most requests are refused, and accepted writes must not wait behind those.
pub(crate) struct BrokerClients {
    pub(crate) publisher: Publisher,
    pub(crate) replies: ExclusiveConsumer,
    _runtime: DedicatedRuntime,
}

impl BrokerClients {
    /// Starts to connect. At most `max_waiting` commands wait to be published.
    pub(crate) fn start(
        url: BrokerUrl,
        publish_connections: usize,
        max_waiting: usize,
        pending: Pending,
        store: Store,
    ) -> anyhow::Result<Self> {
        let runtime =
            DedicatedRuntime::start("broker").context("cannot start a thread for the broker")?;
        let replies = runtime.run(|| {
            let resolve = move |reply: Reply| {
                // Before anyone is answered: whoever reads after its response must see the write.
                if let Some(time) = reply.cluster_time {
                    store.advance(time);
                }
                pending.resolve(reply);
            };
            ExclusiveConsumer::replies(url.clone(), resolve)
        });
        let publisher = runtime
            .run(|| Publisher::start(url, publish_connections, max_waiting, replies.queue_name()));
        Ok(Self { publisher, replies, _runtime: runtime })
    }

    /// Closes the connections. Replies come last, so that every outcome in time is received.
    pub(crate) async fn close(self) {
        self.publisher.close().await;
        self.replies.close().await;
    }
}
