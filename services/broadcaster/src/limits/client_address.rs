//! The address of a client behind proxies.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Returns the nearest address on the request's way that is not a trusted proxy. Each trusted proxy
/// has appended the address that it got the request from; anything before that may be forged.
pub(crate) fn client_address(
    peer: IpAddr,
    headers: &HeaderMap,
    trusted_proxies: &[IpNet],
) -> IpAddr {
    let is_trusted =
        |address: &IpAddr| trusted_proxies.iter().any(|network| network.contains(address));
    let mut nearest = peer.to_canonical();
    // The nearest is the last; `None` is hidden or not an address.
    let mut hops: Vec<Option<IpAddr>> = if headers.contains_key(X_FORWARDED_FOR) {
        elements(headers, &X_FORWARDED_FOR).map(parse_address).collect()
    } else {
        elements(headers, &header::FORWARDED).map(forwarded_for).collect()
    };
    while is_trusted(&nearest) {
        let Some(Some(before)) = hops.pop() else { break };
        nearest = before;
    }
    nearest
}

/// Returns the address in an element of `Forwarded` (RFC 7239).
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let (_, sender) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    parse_address(sender.trim().trim_matches('"'))
}

/// Returns the elements of a list, from all lines of the header.
fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter();
    // A line that is not ASCII still takes its place in the list.
    lines.flat_map(|line| line.to_str().unwrap_or("?").split(',').map(str::trim))
}

/// Parses an address with or without a port, such as `192.0.2.1:80` and `[2001:db8::1]:80`.
fn parse_address(text: &str) -> Option<IpAddr> {
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

    fn client(trusted: &[&str], peer: &str, headers: &[(HeaderName, &'static str)]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, HeaderValue::from_static(value));
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
        let both = [(header::FORWARDED, "for=1.1.1.1"), (X_FORWARDED_FOR, "192.0.2.9:80")];
        assert_eq!(client(&trusted, "10.0.0.1", &both), "192.0.2.9");
    }
}
