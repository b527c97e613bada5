//! The address of a client behind proxies.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;
use service::http::lists::{Parameter, Quotes, elements, parameters};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Returns the nearest address on the request's way that is not a trusted proxy. Each trusted proxy
/// has appended the address that it got the request from; anything before that may be forged.
///
/// `X-Forwarded-For` counts where it names anybody, else `Forwarded`.
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
    let mut hops: Vec<Option<IpAddr>> =
        elements(headers, &X_FORWARDED_FOR, Quotes::Plain).map(parse_address).collect();
    if hops.is_empty() {
        hops = elements(headers, &header::FORWARDED, Quotes::Strings).map(forwarded_for).collect();
    }
    while is_trusted(&nearest) {
        let Some(Some(before)) = hops.pop() else { break };
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

/// Parses an address with or without a port, such as `192.0.2.1:80` and `[2001:db8::1]:80`.
fn parse_address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
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
        let both = [(header::FORWARDED, "for=1.1.1.1"), (X_FORWARDED_FOR, "192.0.2.9:80")];
        assert_eq!(client(&trusted, "10.0.0.1", &both), "192.0.2.9");
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
