//! Limits of requests, for each user or address.
//!
//! They count in this process: several replicas let as many times more through.

mod failures;
mod named;
mod table;

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    num::NonZeroU32,
    str::FromStr,
    time::Duration,
};

use governor::{
    clock::{Clock, MonotonicClock},
    middleware::StateInformationMiddleware,
};
use telemetry::metrics::{Counter, catalog::RATE_LIMITED};

pub use failures::FailureLimit;
pub use named::NamedLimit;
use table::Table;

/// Maximum time of a [`Rate`], in seconds.
const MAX_WINDOW_S: u32 = 86_400;

/// Maximum number of requests of a [`Rate`].
const MAX_REQUESTS: u32 = 1_000_000;

/// A number of requests in a time, as in `600/60s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    requests: NonZeroU32,
    window_s: NonZeroU32,
}

/// A text that is no rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a number of requests (1 to {MAX_REQUESTS}) and of seconds (1 to {MAX_WINDOW_S}), such as 600/60s"
)]
pub struct InvalidRate;

/// Client whose requests are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key<'a> {
    /// A user's.
    User(&'a str),
    /// A service's that is no user. It may have the name of a user.
    Service(&'a str),
    /// Those without a token from an address. IPv6 addresses of one /64 network count as one.
    Address(IpAddr),
}

/// Remainder of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// True if the request is within the limit. It has been counted.
    pub allowed: bool,
    /// Number of further requests that are allowed at once.
    pub remaining: u32,
    /// Time until a request is allowed again, or, if this one was, until as many are as ever.
    pub reset: Duration,
}

/// Limits the requests of each user and address to a rate. All of them may come at once; as they are used up, they come back
/// one by one. It knows a limited number of users and addresses, and forgets who has asked least.
pub struct RateLimiter<C: Clock = MonotonicClock> {
    limiter: governor::RateLimiter<u64, Table, C, StateInformationMiddleware>,
    rate: Rate,
    /// Random, so that nobody can choose whom to share a place in the table with.
    hasher: RandomState,
    limited: Counter,
}

impl Rate {
    /// Makes a rate; `None` if it is out of bounds.
    #[must_use]
    pub const fn new(requests: u32, window_s: u32) -> Option<Self> {
        if requests > MAX_REQUESTS || window_s > MAX_WINDOW_S {
            return None;
        }
        match (NonZeroU32::new(requests), NonZeroU32::new(window_s)) {
            (Some(requests), Some(window_s)) => Some(Self { requests, window_s }),
            _ => None,
        }
    }

    /// Returns the number of requests.
    #[must_use]
    pub const fn requests(&self) -> u32 {
        self.requests.get()
    }

    /// Returns the time in which they may be made.
    #[must_use]
    pub const fn window(&self) -> Duration {
        Duration::from_secs(self.window_s.get() as u64)
    }

    /// Returns the time after which one more request is allowed.
    fn interval(self) -> Duration {
        self.window() / self.requests()
    }
}

impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| text.parse().ok();
        let parsed = text.trim().split_once('/').and_then(|(requests, window)| {
            Self::new(number(requests)?, number(window.strip_suffix('s')?)?)
        });
        parsed.ok_or(InvalidRate)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}s", self.requests, self.window_s)
    }
}

impl Key<'_> {
    fn hash(self, hasher: &RandomState) -> u64 {
        match self {
            Self::User(user) => hasher.hash_one((0_u8, user)),
            Self::Service(subject) => hasher.hash_one((3_u8, subject)),
            Self::Address(ip) => match ip.to_canonical() {
                IpAddr::V4(ip) => hasher.hash_one((1_u8, ip.to_bits())),
                IpAddr::V6(ip) => hasher.hash_one((2_u8, ip.to_bits() >> 64)),
            },
        }
    }
}

impl RateLimiter {
    /// Makes a limiter. `limit` is its name in the metric of requests that are refused.
    #[must_use]
    pub fn new(limit: &'static str, rate: Rate) -> Self {
        Self::with_clock(limit, rate, MonotonicClock)
    }
}

impl<C: Clock> RateLimiter<C> {
    fn with_clock(limit: &'static str, rate: Rate, clock: C) -> Self {
        let every = governor::Quota::with_period(rate.interval());
        // An interval is at least 1 µs.
        let quota =
            every.unwrap_or(governor::Quota::per_second(rate.requests)).allow_burst(rate.requests);
        Self {
            limiter: governor::RateLimiter::new(quota, Table::default(), clock),
            rate,
            hasher: RandomState::new(),
            limited: RATE_LIMITED.with(&[("limit", limit)]),
        }
    }

    /// Returns the rate.
    #[must_use]
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Counts a request, unless it is beyond the limit.
    pub fn take(&self, key: Key<'_>) -> Quota {
        match self.limiter.check_key(&key.hash(&self.hasher)) {
            Ok(state) => {
                let remaining = state.remaining_burst_capacity();
                let used = self.rate.requests().saturating_sub(remaining);
                Quota { allowed: true, remaining, reset: self.rate.interval() * used }
            }
            Err(refused) => {
                self.limited.increment(1);
                let reset = refused.wait_time_from(self.limiter.clock().now());
                Quota { allowed: false, remaining: 0, reset }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    const ALICE: Key<'_> = Key::User("alice");

    fn limiter(rate: &str) -> (RateLimiter<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (RateLimiter::with_clock("test", rate.parse().unwrap(), clock.clone()), clock)
    }

    fn address(text: &str) -> Key<'static> {
        Key::Address(text.parse().unwrap())
    }

    #[test]
    fn a_rate_is_requests_in_seconds() {
        let rate: Rate = " 600/60s ".parse().unwrap();
        assert_eq!((rate.requests(), rate.window()), (600, Duration::from_mins(1)));
        assert_eq!(rate.to_string(), "600/60s");
        for bad in [
            "",
            "600",
            "600/60",
            "600/m",
            "0/60s",
            "1/0s",
            "-1/1s",
            "1000001/1s",
            "1/86401s",
            "1/1s/1s",
        ] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
        assert!("1000000/1s".parse::<Rate>().is_ok() && "1/86400s".parse::<Rate>().is_ok());
    }

    #[test]
    fn a_rate_may_be_used_at_once_and_comes_back_one_by_one() {
        let (limiter, clock) = limiter("3/30s");
        let seconds = Duration::from_secs;
        let allowed = |remaining, reset| Quota { allowed: true, remaining, reset: seconds(reset) };
        assert_eq!(limiter.take(ALICE), allowed(2, 10));
        assert_eq!(limiter.take(ALICE), allowed(1, 20));
        assert_eq!(limiter.take(ALICE), allowed(0, 30));
        let refused = Quota { allowed: false, remaining: 0, reset: seconds(10) };
        assert_eq!(limiter.take(ALICE), refused);
        clock.advance(seconds(4));
        assert_eq!(
            limiter.take(ALICE),
            Quota { reset: seconds(6), ..refused },
            "refusals cost nothing"
        );
        clock.advance(seconds(6));
        assert_eq!(limiter.take(ALICE), allowed(0, 30));
        clock.advance(seconds(300));
        assert_eq!(limiter.take(ALICE), allowed(2, 10), "no more than ever");
    }

    #[test]
    fn each_user_and_each_network_has_a_rate_of_its_own() {
        let (limiter, _clock) = limiter("1/60s");
        let take = |key| limiter.take(key).allowed;
        assert!(take(ALICE) && take(Key::User("bob")));
        assert!(!take(ALICE));
        assert!(take(address("192.0.2.1")) && take(address("192.0.2.2")));
        assert!(!take(address("::ffff:192.0.2.1")), "the same address, written in another way");
        assert!(take(address("2001:db8:0:1::1")));
        assert!(!take(address("2001:db8:0:1:ffff::2")), "the same network");
        assert!(take(address("2001:db8:0:2::1")));
        assert!(take(Key::User("192.0.2.1")), "no address");
        assert!(take(Key::Service("alice")), "no user");
    }
}
