//! Limits of requests per user, or per address where there is no user: one of reads, and one of writes.

use std::{net::IpAddr, time::Duration};

use auth::limits::{Key, NamedLimit, Quota, Rate};
use axum::http::{HeaderMap, Method};
use contracts::Problem;

/// The limits of this gateway. None count what others serve.
#[derive(Default)]
pub(crate) struct RateLimits {
    writes: Option<NamedLimit>,
    reads: Option<NamedLimit>,
}

/// Remainder for a client after a request.
pub(super) struct Taken<'limits> {
    limit: &'limits NamedLimit,
    quota: Quota,
}

impl RateLimits {
    /// Returns limits of these rates; `None` allows any.
    pub(crate) fn new(writes: Option<Rate>, reads: Option<Rate>) -> Self {
        let limit = |name, rate: Option<Rate>| rate.map(|rate| NamedLimit::new(name, rate));
        Self { writes: limit("writes", writes), reads: limit("reads", reads) }
    }

    /// Counts a request by this key, or else by the address. Returns `None` if requests of this method are not limited.
    pub(super) fn take(
        &self,
        method: &Method,
        key: Option<Key<'_>>,
        address: impl FnOnce() -> IpAddr,
    ) -> Option<Taken<'_>> {
        let is_read = method == Method::GET || method == Method::HEAD;
        let limit = if is_read { &self.reads } else { &self.writes }.as_ref()?;
        let key = key.unwrap_or_else(|| Key::Address(address()));
        Some(Taken { limit, quota: limit.take(key) })
    }
}

impl Taken<'_> {
    /// Returns the problem of a request beyond the limit.
    pub(super) fn refusal(&self) -> Option<Problem> {
        self.limit.refusal(&self.quota)
    }

    /// Returns the time until a request is allowed again, or until there is more left, in whole seconds.
    pub(super) fn reset(&self) -> Duration {
        self.quota.reset_in_seconds()
    }

    /// Says in a response what is left.
    pub(super) fn describe(&self, headers: &mut HeaderMap) {
        self.limit.describe(&self.quota, headers);
    }
}
