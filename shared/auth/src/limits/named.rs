//! A limit that tells clients what is left to them (draft-ietf-httpapi-ratelimit-headers).

use std::time::Duration;

use contracts::{Problem, ProblemKind};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Key, Quota, Rate, RateLimiter};

const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// A limit of requests with a name, such as `reads`, by which clients and metrics know it.
pub struct NamedLimit {
    name: &'static str,
    limiter: RateLimiter,
    /// The value of `RateLimit-Policy`.
    policy: HeaderValue,
}

impl NamedLimit {
    /// Makes a limit. Its name has letters only.
    #[must_use]
    pub fn new(name: &'static str, rate: Rate) -> Self {
        let text = format!("\"{name}\";q={};w={}", rate.requests(), rate.window().as_secs());
        // Digits and the name are valid in a header.
        let policy = HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(name));
        Self { name, limiter: RateLimiter::new(name, rate), policy }
    }

    /// Counts a request, unless it is beyond the limit.
    pub fn take(&self, key: Key<'_>) -> Quota {
        self.limiter.take(key)
    }

    /// Returns the problem of a request that is beyond the limit.
    #[must_use]
    pub fn refusal(&self, quota: &Quota) -> Option<Problem> {
        let refused = || {
            let (name, seconds) = (self.name, quota.reset_in_seconds().as_secs());
            let detail =
                format!("too many {name} by this user or address; retry after {seconds} s");
            Problem::new(ProblemKind::RateLimited, detail)
        };
        (!quota.allowed).then(refused)
    }

    /// Says in a response what is left.
    pub fn describe(&self, quota: &Quota, headers: &mut HeaderMap) {
        let (name, left) = (self.name, quota.remaining);
        let left = format!("\"{name}\";r={left};t={}", quota.reset_in_seconds().as_secs());
        if let Ok(left) = HeaderValue::try_from(left) {
            headers.insert(RATELIMIT, left);
        }
        headers.insert(RATELIMIT_POLICY, self.policy.clone());
    }
}

impl Quota {
    /// Returns the time until a request is allowed again, or until there is more left, in whole seconds: rounded up, so that
    /// a client does not come too early.
    #[must_use]
    pub fn reset_in_seconds(&self) -> Duration {
        Duration::from_secs(self.reset.as_secs() + u64::from(self.reset.subsec_nanos() > 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_told_what_is_left_and_when_it_may_come_again() {
        let limit = NamedLimit::new("reads", "1/60s".parse().unwrap());
        for (refused, left) in [(false, "\"reads\";r=0;t=60"), (true, "\"reads\";r=0;t=60")] {
            let quota = limit.take(Key::User("alice"));
            let problem = limit.refusal(&quota);
            assert_eq!(problem.map(|problem| problem.status), refused.then_some(429));
            let mut headers = HeaderMap::new();
            limit.describe(&quota, &mut headers);
            assert_eq!(headers[RATELIMIT], left);
            assert_eq!(headers[RATELIMIT_POLICY], "\"reads\";q=1;w=60");
        }
    }
}
