//! How many subscribers may come from one address, and which address that is behind proxies.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Counts subscribers by address. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct AddressLimit(Option<Arc<PerIpLimiter>>);

#[derive(Debug)]
struct PerIpLimiter {
    most: u32,
    trusted_proxies: Vec<IpNet>,
    taken: Mutex<HashMap<IpAddr, u32>>,
}

/// One subscriber's place among those of its address, free again on drop.
pub(crate) struct IpPermit {
    limit: Arc<PerIpLimiter>,
    address: IpAddr,
}

/// The address has all the places that it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LimitReached;

impl AddressLimit {
    /// `most` from one address, or any number where there is no limit. Only what these proxies say
    /// of where a request comes from is believed.
    #[must_use]
    pub fn new(most: Option<u32>, trusted_proxies: Vec<IpNet>) -> Self {
        Self(
            most.map(|most| {
                Arc::new(PerIpLimiter { most, trusted_proxies, taken: Mutex::default() })
            }),
        )
    }

    /// A place for the sender of this request; `None` where nothing is counted.
    pub(crate) fn take(
        &self,
        peer: SocketAddr,
        headers: &HeaderMap,
    ) -> Result<Option<IpPermit>, LimitReached> {
        let Some(limit) = &self.0 else { return Ok(None) };
        let address = counted(limit.client(peer.ip().to_canonical(), headers));
        let mut taken = limit.taken();
        let count = taken.entry(address).or_insert(0);
        if *count >= limit.most {
            return Err(LimitReached);
        }
        *count += 1;
        Ok(Some(IpPermit { limit: Arc::clone(limit), address }))
    }
}

impl PerIpLimiter {
    /// The nearest address on the request's way that is no trusted proxy. Each of those has appended
    /// where it got the request from; what stands before that anybody may have made up.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut nearest = peer;
        let mut hops = if headers.contains_key(X_FORWARDED_FOR) {
            x_forwarded_for(headers)
        } else {
            forwarded(headers)
        };
        while self.is_trusted(nearest) {
            match hops.pop() {
                Some(Some(before)) => nearest = before,
                // The first of the proxies, or one that hides where the request came from.
                Some(None) | None => break,
            }
        }
        nearest
    }

    fn is_trusted(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(&address))
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for IpPermit {
    fn drop(&mut self) {
        let mut taken = self.limit.taken();
        if let Some(count) = taken.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

impl fmt::Debug for IpPermit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("IpPermit").field(&self.address).finish()
    }
}

/// What is counted as one: a customer's line has one IPv4 address, and a network of 64 bits of IPv6.
fn counted(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let network = address.to_bits() & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
    }
}

/// The addresses of `X-Forwarded-For`, the nearest last; `None` for what is no address.
fn x_forwarded_for(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    listed(headers, &X_FORWARDED_FOR).map(node).collect()
}

/// The addresses of `Forwarded` (RFC 7239), the nearest last; `None` for a hidden one.
fn forwarded(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let senders = listed(headers, &header::FORWARDED).map(|element| {
        let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
        let (_, sender) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
        node(sender.trim().trim_matches('"'))
    });
    senders.collect()
}

/// The elements of a header that lists them, in however many lines.
fn listed<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter();
    // What is not ASCII is no address; it must still take its place in the list.
    lines.flat_map(|line| line.to_str().unwrap_or("?").split(',').map(str::trim))
}

/// An address with or without a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`.
fn node(text: &str) -> Option<IpAddr> {
    let address = text
        .parse::<SocketAddr>()
        .map(|with_port| with_port.ip())
        .or_else(|_| text.trim_start_matches('[').trim_end_matches(']').parse());
    address.ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn limit(most: u32, trusted: &[&str]) -> AddressLimit {
        AddressLimit::new(Some(most), trusted.iter().map(|it| it.parse().unwrap()).collect())
    }

    fn client(trusted: &[&str], peer: &str, headers: &[(HeaderName, &'static str)]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, HeaderValue::from_static(value));
        }
        let limit = limit(1, trusted).0.unwrap();
        limit.client(peer.parse().unwrap(), &map).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let spoofed = [(X_FORWARDED_FOR, "198.51.100.7")];
        assert_eq!(client(&[], "192.0.2.1", &spoofed), "192.0.2.1");
        assert_eq!(client(&["10.0.0.0/8"], "192.0.2.1", &spoofed), "192.0.2.1");
        assert_eq!(client(&["192.0.2.0/24"], "192.0.2.1", &spoofed), "198.51.100.7");
    }

    #[test]
    fn what_a_client_puts_before_the_proxies_counts_for_nothing() {
        let trusted = ["10.0.0.0/8"];
        let lines = [(X_FORWARDED_FOR, "1.1.1.1, 192.0.2.9"), (X_FORWARDED_FOR, "10.0.0.2")];
        assert_eq!(client(&trusted, "10.0.0.1", &lines), "192.0.2.9");
        let hidden = [(X_FORWARDED_FOR, "1.1.1.1, unknown")];
        assert_eq!(client(&trusted, "10.0.0.1", &hidden), "10.0.0.1");
        assert_eq!(client(&trusted, "10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn both_headers_are_read_with_ports_and_quotes() {
        let trusted = ["10.0.0.0/8", "2001:db8:1::/48"];
        for (value, expected) in [
            (r#"for=192.0.2.9;proto=https, FOR="[2001:db8:1::2]:4711""#, "192.0.2.9"),
            (r#"for="[2001:db8:2::2]""#, "2001:db8:2::2"),
            ("proto=https", "10.0.0.1"),
            ("for=_hidden", "10.0.0.1"),
        ] {
            assert_eq!(client(&trusted, "10.0.0.1", &[(header::FORWARDED, value)]), expected);
        }
        let both = [(header::FORWARDED, "for=1.1.1.1"), (X_FORWARDED_FOR, "192.0.2.9:80")];
        assert_eq!(client(&trusted, "10.0.0.1", &both), "192.0.2.9");
    }

    #[test]
    fn a_place_is_free_again_when_its_holder_leaves() {
        let limit = limit(2, &[]);
        let take = |peer: &str| limit.take(peer.parse().unwrap(), &HeaderMap::new());
        let first = take("192.0.2.1:1").unwrap();
        let _second = take("192.0.2.1:2").unwrap();
        assert_eq!(take("192.0.2.1:3").err(), Some(LimitReached));
        assert_eq!(take("[::ffff:192.0.2.1]:3").err(), Some(LimitReached), "the same, over IPv6");
        assert!(take("192.0.2.2:1").is_ok());
        drop(first);
        assert!(take("192.0.2.1:3").is_ok());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let limit = limit(1, &[]);
        let _first = limit.take("[2001:db8::1]:1".parse().unwrap(), &HeaderMap::new()).unwrap();
        let again = limit.take("[2001:db8::ffff:1]:1".parse().unwrap(), &HeaderMap::new());
        assert_eq!(again.err(), Some(LimitReached));
        let other = limit.take("[2001:db8:0:1::1]:1".parse().unwrap(), &HeaderMap::new());
        assert!(other.is_ok());
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let place = AddressLimit::default().take("192.0.2.1:1".parse().unwrap(), &HeaderMap::new());
        assert!(place.unwrap().is_none());
    }
}
