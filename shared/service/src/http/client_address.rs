//! The address of a client behind proxies.

use std::net::{IpAddr, Ipv4Addr};

use ::http::{HeaderMap, HeaderName, Request, header};
use clap::Args;
use ipnet::IpNet;

use super::{
    Peer,
    lists::{Parameter, Quotes, elements, parameters},
};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The proxies that are believed, a setting of services that clients reach.
#[derive(Args, Clone, Debug, Default)]
pub struct TrustedProxies {
    /// Proxies whose X-Forwarded-For or Forwarded names the client's address (if a request has both, they
    /// must agree): addresses and networks such as 10.0.0.0/8, separated by commas
    #[arg(long, env = "TRUSTED_PROXIES", value_delimiter = ',', value_parser = network)]
    trusted_proxies: Vec<IpNet>,
}

impl TrustedProxies {
    /// Returns the address of the client that has sent a request.
    #[must_use]
    pub fn client_of<B>(&self, request: &Request<B>) -> IpAddr {
        let peer = request.extensions().get::<Peer>();
        let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |Peer(peer)| peer.ip());
        client_address(peer, request.headers(), &self.trusted_proxies)
    }

    /// Returns true if the address is one of theirs.
    #[must_use]
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted_proxies.iter().any(|network| network.contains(&address))
    }

    /// Returns true without any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.trusted_proxies.is_empty()
    }

    /// Returns a network that has every client, so that each may claim any address.
    #[must_use]
    pub fn everybody(&self) -> Option<IpNet> {
        self.trusted_proxies.iter().copied().find(|network| network.prefix_len() == 0)
    }
}

impl FromIterator<IpNet> for TrustedProxies {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        Self { trusted_proxies: networks.into_iter().collect() }
    }
}

/// Parses a network. One of IPv4 addresses within IPv6 becomes the network of IPv4: so do the addresses
/// that it is compared to.
fn network(text: &str) -> Result<IpNet, String> {
    const MAPPED_PREFIX: u8 = 96;
    let text = text.trim();
    let network = text
        .parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| "must be an address or a network such as 10.0.0.0/8".to_owned())?;
    let mapped = match network {
        IpNet::V6(net) => {
            net.addr().to_ipv4_mapped().zip(net.prefix_len().checked_sub(MAPPED_PREFIX))
        }
        IpNet::V4(_) => None,
    };
    // The difference is at most 32.
    Ok(mapped.and_then(|(ip, length)| IpNet::new(ip.into(), length).ok()).unwrap_or(network))
}

/// Returns the nearest address on the request's way that is not a trusted proxy. Each trusted proxy
/// has appended the address that it got the request from; anything before that may be forged.
///
/// `X-Forwarded-For` and `Forwarded` count as far as they agree, where both name anybody: most proxies write one
/// of them and pass on the other as the client sent it.
pub(crate) fn client_address(
    peer: IpAddr,
    headers: &HeaderMap,
    trusted_proxies: &[IpNet],
) -> IpAddr {
    let is_trusted =
        |address: &IpAddr| trusted_proxies.iter().any(|network| network.contains(address));
    let mut nearest = peer.to_canonical();
    if !is_trusted(&nearest) {
        return nearest;
    }
    // The nearest is the last; `None` is hidden or not an address. Then the proxy that tells nothing
    // counts itself, so that a client gains nothing by sending what cannot be read.
    let mut listed: Vec<Option<IpAddr>> =
        elements(headers, &X_FORWARDED_FOR, Quotes::Plain).map(parse_address).collect();
    let mut forwarded: Vec<Option<IpAddr>> =
        elements(headers, &header::FORWARDED, Quotes::Strings).map(forwarded_for).collect();
    let (is_listed, is_forwarded) = (!listed.is_empty(), !forwarded.is_empty());
    while is_trusted(&nearest) {
        let before = match (is_listed, is_forwarded) {
            (true, true) => {
                let before = listed.pop().flatten();
                before.filter(|_| before == forwarded.pop().flatten())
            }
            (true, false) => listed.pop().flatten(),
            (false, _) => forwarded.pop().flatten(),
        };
        let Some(before) = before else { break };
        nearest = before;
    }
    nearest
}

/// Returns the address in an element of `Forwarded` (RFC 7239). The element must be valid as a whole: a
/// quote that a client leaves open turns what the next proxy appends into a part of the client's.
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    let pairs: Vec<Parameter<'_>> = parameters(element).collect::<Option<_>>()?;
    let mut senders = pairs.iter().filter(|pair| pair.name.eq_ignore_ascii_case("for"));
    let (Some(sender), None) = (senders.next(), senders.next()) else { return None };
    parse_address(sender.value.as_deref()?)
}

/// Parses an address with or without a port, such as `192.0.2.1:80` and `[2001:db8::1]:80` (RFC 7239, section 6). An
/// IPv6 address may lack its brackets if it has no port.
fn parse_address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    let (address, port) = if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let port = if port.is_empty() { None } else { Some(port.strip_prefix(':')?) };
        (IpAddr::V6(address.parse().ok()?), port)
    } else {
        let (address, port) = text.split_once(':')?;
        (IpAddr::V4(address.parse().ok()?), Some(port))
    };
    port.is_none_or(is_port).then(|| address.to_canonical())
}

/// Returns true for a number, or a name that hides one, such as `_p`.
fn is_port(port: &str) -> bool {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    match port.strip_prefix('_') {
        Some(name) => !name.is_empty() && name.bytes().all(is_name),
        None => (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use ::http::HeaderValue;

    use super::*;

    #[test]
    fn proxies_are_addresses_or_networks() {
        for (text, expected) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            (" 2001:db8::1", "2001:db8::1/128"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:192.0.2.1", "192.0.2.1/32"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
        ] {
            assert_eq!(network(text).unwrap().to_string(), expected);
        }
        for text in ["10.0.0.0/33", "proxy.example", ""] {
            assert!(network(text).is_err(), "{text}");
        }
    }

    fn client(trusted: &[&str], peer: &str, headers: &[(HeaderName, &'static str)]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|it| it.parse().unwrap()).collect();
        client_address(peer.parse().unwrap(), &map, &trusted).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let spoofed = [(X_FORWARDED_FOR, "198.51.100.7")];
        assert_eq!(client(&[], "192.0.2.1", &spoofed), "192.0.2.1");
        assert_eq!(client(&["10.0.0.0/8"], "192.0.2.1", &spoofed), "192.0.2.1");
        assert_eq!(client(&["192.0.2.0/24"], "192.0.2.1", &spoofed), "198.51.100.7");
    }

    #[test]
    fn addresses_before_those_of_trusted_proxies_are_ignored() {
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
    }

    #[test]
    fn both_headers_count_as_far_as_they_agree() {
        for (listed, forwarded, expected) in [
            ("192.0.2.9:80", "for=192.0.2.9", "192.0.2.9"),
            ("1.1.1.1, 192.0.2.9, 10.0.0.2", "for=192.0.2.9, for=10.0.0.2", "192.0.2.9"),
            // One of them is the client's own, but not what proxies appended to both.
            ("1.1.1.1", "for=192.0.2.9", "10.0.0.1"),
            ("192.0.2.9", "for=1.1.1.1", "10.0.0.1"),
            ("x", "for=192.0.2.9", "10.0.0.1"),
            ("1.1.1.1, 10.0.0.2", "for=192.0.2.9, for=10.0.0.2", "10.0.0.2"),
            ("10.0.0.2", "for=192.0.2.9, for=10.0.0.2", "10.0.0.2"),
        ] {
            let both = [(header::FORWARDED, forwarded), (X_FORWARDED_FOR, listed)];
            assert_eq!(client(&["10.0.0.0/8"], "10.0.0.1", &both), expected, "{both:?}");
        }
    }

    #[test]
    fn an_address_may_have_brackets_and_a_port() {
        let parsed = |text: &str| parse_address(text.as_bytes()).map(|it| it.to_string());
        for text in
            ["192.0.2.9", "192.0.2.9:80", "192.0.2.9:_p", "192.0.2.9:_a.B-_9", "::ffff:192.0.2.9"]
        {
            assert_eq!(parsed(text).as_deref(), Some("192.0.2.9"), "{text}");
        }
        for text in ["2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:65535", "[2001:db8::1]:_p"] {
            assert_eq!(parsed(text).as_deref(), Some("2001:db8::1"), "{text}");
        }
        for text in [
            "[[2001:db8::1]]",
            "[[2001:db8::1",
            "[2001:db8::1",
            "2001:db8::1]",
            "[2001:db8::1]80",
            "[2001:db8::1]:",
            "[192.0.2.9]",
            "192.0.2.9]",
            "192.0.2.9:",
            "192.0.2.9:_",
            "192.0.2.9:_ä",
            "192.0.2.9:p",
            "192.0.2.9:123456",
            "192.0.2.9:80:80",
            "",
            "[]",
        ] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_names_nobody_else() {
        let trusted = ["10.0.0.0/8"];
        let forwarded = |value| client(&trusted, "10.0.0.1", &[(header::FORWARDED, value)]);
        for value in [
            // A comma within quotes ends no element, and an empty element is none.
            r#"for=192.0.2.9;host="x,for=9.9.9.1""#,
            r#"for=9.9.9.1, for=192.0.2.9;host="x\",for=9.9.9.2""#,
            "for=192.0.2.9, ,",
            ";; for=192.0.2.9 ;",
        ] {
            assert_eq!(forwarded(value), "192.0.2.9", "{value}");
        }
        for value in [
            // What a proxy appended has become a part of a quoted string.
            r#"for=9.9.9.1;host=", for=192.0.2.9"#,
            r#"for=9.9.9.1;host=", for="[2001:db8::1]:80";host="x""#,
            r#"for="9.9.9.1\""#,
            "for=9.9.9.1;for=9.9.9.2",
            r#"for=9.9.9.1;host=a"b""#,
            "for=9.9.9.1;host=",
            "for",
        ] {
            assert_eq!(forwarded(value), "10.0.0.1", "{value}");
        }
        let lines = [(header::FORWARDED, r#"for="9.9.9.1"#), (header::FORWARDED, "for=192.0.2.9")];
        assert_eq!(client(&trusted, "10.0.0.1", &lines), "192.0.2.9");
        let listed = |value| client(&trusted, "10.0.0.1", &[(X_FORWARDED_FOR, value)]);
        for value in ["192.0.2.9,", "192.0.2.9 , ,", r#"", 192.0.2.9"#, "\u{e4}, 192.0.2.9"] {
            assert_eq!(listed(value), "192.0.2.9", "{value}");
        }
        let both = [(header::FORWARDED, "for=192.0.2.9"), (X_FORWARDED_FOR, ",")];
        assert_eq!(client(&trusted, "10.0.0.1", &both), "192.0.2.9");
    }
}
