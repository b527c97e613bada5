//! Finding out who sends a request: with `AUTH=jwt`, by its token.

use std::{fmt, net::IpAddr, sync::Arc};

use auth::{Authenticator, Caller, Denied, Identity, limits::FailureLimit};
use http::HeaderMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::refusal::Refusal;
use crate::limits::{
    per_ip_limit::{IpPermit, LimitReached, PerIpLimiter},
    token_expiry::TokenExpiry,
};

/// Maximum number of WebSockets that were opened without a token and wait for it.
const MAX_WAITING: usize = 512;

/// Maximum number of those from one address: else one client without a token could keep out all others.
pub(super) const MAX_WAITING_PER_ADDRESS: u32 = 16;

/// Verifies the tokens of clients.
pub(crate) struct Authentication {
    authenticator: Authenticator,
    failures: FailureLimit,
    waiting: Arc<Semaphore>,
    waiting_per_address: PerIpLimiter,
    /// Every valid token opens `/api/chat`.
    pub(super) is_chat_public: bool,
}

/// Sender of a request, as far as it tells.
pub(super) enum Identification {
    /// `AUTH=off`.
    NotNeeded,
    /// The holder of a valid token.
    Known(Identity),
    /// A WebSocket that is to send its token in a message.
    Awaited(WaitingPermit),
}

/// A session's share of those that wait for their tokens, released on drop.
pub(super) struct WaitingPermit {
    _of_all: OwnedSemaphorePermit,
    _of_address: Option<IpPermit>,
}

impl Authentication {
    pub(crate) fn new(authenticator: Authenticator, is_chat_public: bool) -> Self {
        Self {
            authenticator,
            failures: FailureLimit::default(),
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            waiting_per_address: PerIpLimiter::new(Some(MAX_WAITING_PER_ADDRESS)),
            is_chat_public,
        }
    }

    /// Verifies a token that came from this address.
    pub(super) async fn verify(&self, token: &str, client: IpAddr) -> Result<Identity, Denied> {
        let verified = self.authenticator.verify(token).await;
        verified.map_err(|denied| self.failures.count(client, denied))
    }

    /// Finds out who sends a request that is no WebSocket's.
    pub(super) async fn identify(
        &self,
        headers: &HeaderMap,
        client: IpAddr,
    ) -> Result<Identity, Denied> {
        let identified = self.authenticator.identify(headers).await;
        identified.map_err(|denied| self.failures.count(client, denied))
    }

    /// Finds out who opens a WebSocket. A browser can send its token as a subprotocol, or in a message.
    pub(super) async fn identify_websocket(
        &self,
        headers: &HeaderMap,
        client: IpAddr,
    ) -> Result<Identification, Refusal> {
        let identified = self.authenticator.identify_handshake(headers).await;
        match identified.map_err(|denied| self.failures.count(client, denied))? {
            Some(identity) => Ok(Identification::Known(identity)),
            None => self.wait_for_token(client).map(Identification::Awaited),
        }
    }

    fn wait_for_token(&self, client: IpAddr) -> Result<WaitingPermit, Refusal> {
        let of_address = self.waiting_per_address.try_acquire(client);
        let of_address = of_address.map_err(|LimitReached| Refusal::WaitingLimitOfAddress)?;
        let of_all = Arc::clone(&self.waiting).try_acquire_owned();
        let of_all = of_all.map_err(|_| Refusal::WaitingLimit)?;
        Ok(WaitingPermit { _of_all: of_all, _of_address: of_address })
    }
}

impl fmt::Debug for Authentication {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Authentication").finish_non_exhaustive()
    }
}

impl Identification {
    /// Returns the caller; `None` before its token has come.
    pub(super) fn caller(&self) -> Option<Caller> {
        match self {
            Self::NotNeeded => Some(Caller::Unchecked),
            Self::Known(identity) => Some(Caller::Verified(Arc::clone(&identity.principal))),
            Self::Awaited(_) => None,
        }
    }

    /// Returns when the token expires, if there is one.
    pub(super) fn expiry(&self) -> Option<TokenExpiry> {
        match self {
            Self::Known(identity) => Some(TokenExpiry::new(identity)),
            Self::NotNeeded | Self::Awaited(_) => None,
        }
    }
}
