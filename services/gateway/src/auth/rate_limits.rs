//! Limits of requests per user, or per address where there is no user, and the header fields that tell clients
//! (draft-ietf-httpapi-ratelimit-headers).

use std::{net::IpAddr, time::Duration};

use auth::limits::{Key, Quota, Rate, RateLimiter};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use contracts::{Problem, ProblemKind};

const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// The limits of this gateway. None count what others serve.
#[derive(Default)]
pub(crate) struct RateLimits {
    writes: Option<Limit>,
    reads: Option<Limit>,
}

struct Limit {
    name: &'static str,
    limiter: RateLimiter,
    /// The value of `RateLimit-Policy`.
    policy: HeaderValue,
}

/// What is left to a client after a request.
pub(super) struct Taken<'limits> {
    limit: &'limits Limit,
    quota: Quota,
}

impl RateLimits {
    /// Returns limits of these rates; `None` allows any.
    pub(crate) fn new(writes: Option<Rate>, reads: Option<Rate>) -> Self {
        let limit = |name, rate: Option<Rate>| rate.map(|rate| Limit::new(name, rate));
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
        Some(Taken { limit, quota: limit.limiter.take(key) })
    }
}

impl Limit {
    fn new(name: &'static str, rate: Rate) -> Self {
        let text = format!("\"{name}\";q={};w={}", rate.requests(), rate.window().as_secs());
        // Digits and the name are valid in a header.
        let policy = HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(name));
        Self { name, limiter: RateLimiter::new(name, rate), policy }
    }
}

impl Taken<'_> {
    /// Returns the problem of a request beyond the limit.
    pub(super) fn refusal(&self) -> Option<Problem> {
        let refused = || {
            let detail = format!(
                "too many {} by this user or address; retry after {} s",
                self.limit.name,
                self.reset().as_secs()
            );
            Problem::new(ProblemKind::RateLimited, detail)
        };
        (!self.quota.allowed).then(refused)
    }

    /// Returns the time until a request is allowed again, or until there is more left, in whole seconds: rounded up, so that a
    /// client does not come too early.
    pub(super) fn reset(&self) -> Duration {
        let reset = self.quota.reset;
        Duration::from_secs(reset.as_secs() + u64::from(reset.subsec_nanos() > 0))
    }

    /// Says in a response what is left.
    pub(super) fn describe(&self, headers: &mut HeaderMap) {
        let left = format!(
            "\"{}\";r={};t={}",
            self.limit.name,
            self.quota.remaining,
            self.reset().as_secs()
        );
        if let Ok(left) = HeaderValue::try_from(left) {
            headers.insert(RATELIMIT, left);
        }
        headers.insert(RATELIMIT_POLICY, self.limit.policy.clone());
    }
}
