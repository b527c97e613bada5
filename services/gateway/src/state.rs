//! The state that all handlers share.

use std::time::Duration;

use axum::body::Bytes;
use service::{Health, OriginPattern};
use store::{RecentLogEnd, Store};
use telemetry::{logging::AccessLog, metrics::Requests, traces::Tracer};
use tokio_util::sync::CancellationToken;

use crate::{
    auth::OperationMacs, commands::CommandSubmitter, http::middleware::cors::Cors, proxy::Proxy,
};

/// Everything that handlers and layers need.
pub(crate) struct AppState {
    pub(crate) store: Store,
    pub(crate) log_end: RecentLogEnd,
    pub(crate) commands: CommandSubmitter,
    /// Time that a write waits for its outcome unless the client asks otherwise.
    pub(crate) write_wait: Duration,
    /// `None` where authentication is off.
    pub(crate) operation_macs: Option<OperationMacs>,
    /// Content of `/.well-known/oauth-protected-resource` serves; `None` where authentication is off.
    pub(crate) resource_metadata: Option<Bytes>,
    pub(crate) proxy: Proxy,
    pub(crate) health: Health,
    pub(crate) requests: Requests,
    pub(crate) access_log: AccessLog,
    /// Origins of pages that may follow events, besides that of the gateway.
    pub(crate) origins: Vec<OriginPattern>,
    /// `None` if no page of another origin may call the API.
    pub(crate) cors: Option<Cors>,
    pub(crate) tracer: Tracer,
    pub(crate) draining: CancellationToken,
}
