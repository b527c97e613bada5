//! The limit of invalid tokens from one address.

use std::net::IpAddr;

use governor::clock::{Clock, MonotonicClock};

use super::{Key, Rate, RateLimiter};
use crate::Denied;

/// 10 a second, and 50 at once.
const RATE: Rate = match Rate::new(50, 5) {
    Some(rate) => rate,
    None => panic!("it is within the bounds"),
};

/// Limits the invalid tokens from each address: 10 a second, and 50 at once. It is asked only about tokens that are not
/// valid, so that nobody is kept from using a valid one.
pub struct FailureLimit<C: Clock = MonotonicClock>(RateLimiter<C>);

impl Default for FailureLimit {
    fn default() -> Self {
        Self(RateLimiter::new("failed_authentication", RATE))
    }
}

impl FailureLimit {
    /// Makes a limit.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl<C: Clock> FailureLimit<C> {
    /// Counts a refusal by the address of its client, and returns what to answer. A token that has expired was valid, and
    /// no token is no attempt to guess one: they do not count. Tokens that name unknown keys do: anybody can make those.
    pub fn count(&self, address: IpAddr, denied: Denied) -> Denied {
        let is_attempt =
            matches!(denied, Denied::Invalid { expired: false } | Denied::UnknownKey { .. });
        if !is_attempt {
            return denied;
        }
        let quota = self.0.take(Key::Address(address));
        if quota.allowed { denied } else { Denied::TooManyFailures { retry_after: quota.reset } }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use governor::clock::FakeRelativeClock;

    use super::*;

    const INVALID: Denied = Denied::Invalid { expired: false };

    #[test]
    fn only_guesses_count() {
        let clock = FakeRelativeClock::default();
        let limit = FailureLimit(RateLimiter::with_clock("test", RATE, clock.clone()));
        let address = "192.0.2.1".parse().unwrap();
        let unavailable = Denied::KeysUnavailable { retry_after: Duration::from_secs(1) };
        for denied in
            [Denied::Invalid { expired: true }, Denied::NoToken, Denied::NoUser, unavailable]
        {
            for _ in 0..100 {
                assert_eq!(limit.count(address, denied), denied);
            }
        }
        for _ in 0..50 {
            assert_eq!(limit.count(address, INVALID), INVALID);
        }
        let retry_after = Duration::from_millis(100);
        assert_eq!(limit.count(address, INVALID), Denied::TooManyFailures { retry_after });
        assert_eq!(limit.count(address, Denied::NoToken), Denied::NoToken);
        assert_eq!(limit.count("192.0.2.2".parse().unwrap(), INVALID), INVALID);
        clock.advance(retry_after);
        assert_eq!(limit.count(address, INVALID), INVALID);
        let unknown_key = Denied::UnknownKey { retry_after: Duration::from_secs(1) };
        assert_eq!(limit.count(address, unknown_key), Denied::TooManyFailures { retry_after });
        assert_eq!(limit.count("192.0.2.3".parse().unwrap(), unknown_key), unknown_key);
    }
}
