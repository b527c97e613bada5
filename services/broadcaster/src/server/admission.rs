//! Admission of requests: by whom they are, and if they are within the limit of its user or address; and what every response says of both.

use std::{net::IpAddr, sync::Arc};

use auth::{
    Caller, Denied, bearer,
    limits::{Key, Quota},
};
use http::{HeaderMap, Request, header};
use service::http::{BaseUrl, RequestBody};

use super::{
    Server,
    authentication::{Authentication, Identification},
    refusal::Refusal,
};

impl Server {
    /// Returns what verifies tokens; `None` if anybody may do anything.
    pub(super) fn authentication(&self) -> Option<&Arc<Authentication>> {
        self.settings.authentication.as_ref()
    }

    pub(super) fn client_of(&self, request: &Request<RequestBody>) -> IpAddr {
        self.settings.trusted_proxies.client_of(request)
    }

    /// Finds out who makes a request, and counts it.
    pub(super) async fn identify(
        &self,
        request: &mut Request<RequestBody>,
        is_websocket: bool,
    ) -> Result<Identification, Refusal> {
        let (headers, client) = (request.headers(), self.client_of(request));
        let identified = match self.authentication() {
            None if headers.contains_key(bearer::AUTH_OF_GATEWAY) => {
                self.not_enforcing.call_once(|| {
                    tracing::error!(
                        "refusing what gateways with AUTH=jwt pass on, because AUTH is off here: set the AUTH_* \
                         settings of the gateways for the broadcasters, too"
                    );
                });
                return Err(Refusal::NotEnforcing);
            }
            None => Ok(Identification::NotNeeded),
            Some(it) if is_websocket => it.identify_websocket(headers, client).await,
            Some(it) => {
                it.identify(headers, client).await.map(Identification::Known).map_err(Refusal::from)
            }
        };
        self.count(request, client, &identified)?;
        identified
    }

    /// Counts a request of its user, or of its address while no token says who that is. Guessed tokens have a limit of their
    /// own.
    fn count(
        &self,
        request: &mut Request<RequestBody>,
        client: IpAddr,
        identified: &Result<Identification, Refusal>,
    ) -> Result<(), Refusal> {
        let Some(limit) = &self.settings.reads else { return Ok(()) };
        let caller = identified.as_ref().ok().and_then(Identification::caller);
        let key = match identified {
            Err(Refusal::Denied(
                Denied::Invalid { expired: false }
                | Denied::KeysUnavailable { .. }
                | Denied::UnknownKey { .. }
                | Denied::TooManyFailures { .. },
            )) => return Ok(()),
            _ => caller.as_ref().and_then(Caller::limit_key).unwrap_or(Key::Address(client)),
        };
        let quota = limit.take(key);
        request.extensions_mut().insert(quota);
        let refused = |problem| Refusal::RateLimited(Box::new(problem), quota.reset_in_seconds());
        limit.refusal(&quota).map_or(Ok(()), |problem| Err(refused(problem)))
    }

    /// Completes a response: says what is left to the client, and where the metadata of this API is as the client sees it.
    pub(super) fn complete(&self, request: &Request<RequestBody>, headers: &mut HeaderMap) {
        if let Some(limit) = &self.settings.reads
            && let Some(quota) = request.extensions().get::<Quota>()
        {
            limit.describe(quota, headers);
        }
        if let Some(challenge) = headers.get(header::WWW_AUTHENTICATE)
            && let Some(base_url) = BaseUrl::of(request, &self.settings.trusted_proxies)
            && let Some(base_url) = base_url.text()
            && let Some(whole) = bearer::with_metadata_at(challenge, &base_url)
        {
            headers.insert(header::WWW_AUTHENTICATE, whole);
        }
    }
}
