//! The limit of subscribers from one address.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Counts subscribers by address; without a limit, it counts nothing. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct PerIpLimiter(Option<Arc<Limit>>);

#[derive(Debug)]
struct Limit {
    max_subscribers: u32,
    subscribers: Mutex<HashMap<IpAddr, u32>>,
}

/// A subscriber's share of the limit, released on drop.
#[derive(Debug)]
pub(crate) struct IpPermit {
    limit: Arc<Limit>,
    address: IpAddr,
}

/// The address has its maximum number of subscribers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LimitReached;

impl PerIpLimiter {
    /// Limits subscribers to `max_subscribers` from one address.
    pub(crate) fn new(max_subscribers: Option<u32>) -> Self {
        Self(max_subscribers.map(|max_subscribers| {
            Arc::new(Limit { max_subscribers, subscribers: Mutex::default() })
        }))
    }

    /// Takes a permit for a subscriber at this address; `None` without a limit.
    pub(crate) fn try_acquire(&self, client: IpAddr) -> Result<Option<IpPermit>, LimitReached> {
        let Some(limit) = &self.0 else { return Ok(None) };
        let address = network(client);
        let mut subscribers = limit.subscribers();
        let count = subscribers.entry(address).or_insert(0);
        if *count >= limit.max_subscribers {
            return Err(LimitReached);
        }
        *count += 1;
        Ok(Some(IpPermit { limit: Arc::clone(limit), address }))
    }
}

impl Limit {
    fn subscribers(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for IpPermit {
    fn drop(&mut self) {
        let mut subscribers = self.limit.subscribers();
        if let Some(count) = subscribers.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                subscribers.remove(&self.address);
            }
        }
    }
}

/// Returns the network that counts as one address: one address of IPv4, but 64 bits of IPv6, as one
/// customer gets them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(limiter: &PerIpLimiter, client: &str) -> Result<Option<IpPermit>, LimitReached> {
        limiter.try_acquire(client.parse().unwrap())
    }

    #[test]
    fn a_permit_is_free_again_when_its_holder_leaves() {
        let limiter = PerIpLimiter::new(Some(2));
        let first = take(&limiter, "192.0.2.1").unwrap();
        let _second = take(&limiter, "192.0.2.1").unwrap();
        assert_eq!(take(&limiter, "192.0.2.1").err(), Some(LimitReached));
        let over_ipv6 = take(&limiter, "::ffff:192.0.2.1");
        assert_eq!(over_ipv6.err(), Some(LimitReached), "it is the same address");
        assert!(take(&limiter, "192.0.2.2").is_ok());
        drop(first);
        assert!(take(&limiter, "192.0.2.1").is_ok());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let limiter = PerIpLimiter::new(Some(1));
        let _first = take(&limiter, "2001:db8::1").unwrap();
        assert_eq!(take(&limiter, "2001:db8::ffff:1").err(), Some(LimitReached));
        assert!(take(&limiter, "2001:db8:0:1::1").is_ok());
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        assert!(take(&PerIpLimiter::default(), "192.0.2.1").unwrap().is_none());
    }
}
