//! The state that all handlers share.

use std::time::Duration;

use service::Health;
use store::Store;
use telemetry::{metrics::Requests, traces::Tracer};
use tokio_util::sync::CancellationToken;

use crate::{commands::submit::CommandSubmitter, proxy::tunnel::Tunnel};

/// What the handlers share.
pub(crate) struct AppState {
    pub(crate) store: Store,
    pub(crate) writes: CommandSubmitter,
    pub(crate) health: Health,
    pub(crate) requests: Requests,
    pub(crate) traces: Tracer,
    pub(crate) tunnel: Tunnel,
    pub(crate) write_wait: Duration,
    pub(crate) draining: CancellationToken,
}
