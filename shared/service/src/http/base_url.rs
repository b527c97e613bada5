//! The URL at which a client reaches a service: what stands before the path.

use ::http::{HeaderMap, HeaderName, HeaderValue, Request, header, uri::Authority};

use super::{
    Peer, TrustedProxies,
    lists::{Parameter, Quotes, elements, parameters},
    rules::host_and_port,
};

const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Scheme and host of a URL of this service, as the client of one request sees them. Cheap to make: most responses do not
/// need it.
#[derive(Clone, Debug)]
pub struct BaseUrl {
    is_https: bool,
    host: Host,
}

/// A host and perhaps a port, in a form that needs no copy.
#[derive(Clone, Debug)]
enum Host {
    Header(HeaderValue),
    Target(Authority),
}

impl BaseUrl {
    /// Returns the URL that a request was sent to; `None` if it names no host. A proxy may have been asked under another
    /// one: it says so in `X-Forwarded-Proto` and `X-Forwarded-Host`, or in `Forwarded` (RFC 7239), and counts if it is
    /// trusted and what it says is clear. A list is not, since each proxy on the way may have added to it, nor are two
    /// headers that disagree.
    #[must_use]
    pub fn of<B>(request: &Request<B>, proxies: &TrustedProxies) -> Option<Self> {
        let headers = request.headers();
        let peer = request.extensions().get::<Peer>();
        let trusted = peer.is_some_and(|Peer(peer)| proxies.contain(peer.ip()));
        let (scheme, host) = if trusted { forwarded(headers) } else { (None, None) };
        let asked = || match request.uri().authority() {
            // A target that names a host has precedence (RFC 9112, section 3.2.2).
            Some(authority) => Some(Host::Target(authority.clone())),
            None => headers.get(header::HOST).cloned().map(Host::Header),
        };
        let host = host.map(Host::Header).or_else(asked)?;
        Some(Self { is_https: scheme.unwrap_or_default(), host })
    }

    /// Returns the URL as text, without a slash at its end. The host has no character that would end a quoted string.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        let host = match &self.host {
            Host::Header(value) => value.as_bytes(),
            Host::Target(authority) => authority.as_str().as_bytes(),
        };
        host_and_port(host)?;
        let scheme = if self.is_https { "https" } else { "http" };
        Some(format!("{scheme}://{}", std::str::from_utf8(host).ok()?))
    }
}

/// Returns whether the scheme is https, and the host, as far as a proxy names them.
fn forwarded(headers: &HeaderMap) -> (Option<bool>, Option<HeaderValue>) {
    let [proto, host] = [X_FORWARDED_PROTO, X_FORWARDED_HOST]
        .map(|name| only(elements(headers, &name, Quotes::Plain)));
    let pairs = only(elements(headers, &header::FORWARDED, Quotes::Strings))
        .and_then(|element| parameters(element).collect::<Option<Vec<_>>>())
        .unwrap_or_default();
    let named = |name: &str| {
        let is_it = |pair: &&Parameter<'_>| pair.name.eq_ignore_ascii_case(name);
        only(pairs.iter().filter(is_it)).and_then(|pair| pair.value.as_deref())
    };
    let scheme = agreed(proto, named("proto")).and_then(is_https);
    let host = agreed(host, named("host")).filter(|host| host_and_port(host).is_some());
    (scheme, host.and_then(|host| HeaderValue::from_bytes(host).ok()))
}

fn is_https(scheme: &[u8]) -> Option<bool> {
    let is = |name: &str| scheme.eq_ignore_ascii_case(name.as_bytes());
    if is("https") { Some(true) } else { is("http").then_some(false) }
}

/// Returns the only item.
fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    items.next().filter(|_| items.next().is_none())
}

/// Returns what one or both say; `None` if they contradict each other.
fn agreed<'a>(one: Option<&'a [u8]>, other: Option<&'a [u8]>) -> Option<&'a [u8]> {
    match (one, other) {
        (Some(one), Some(other)) => one.eq_ignore_ascii_case(other).then_some(one),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base_url(peer: &str, target: &str, lines: &[(&HeaderName, &'static str)]) -> String {
        let mut request = Request::new(());
        *request.uri_mut() = target.parse().unwrap();
        request
            .extensions_mut()
            .insert(Peer((peer.parse::<std::net::IpAddr>().unwrap(), 1).into()));
        for (name, value) in lines {
            request.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        let proxies = ["10.0.0.0/8".parse().unwrap()].into_iter().collect();
        let url = BaseUrl::of(&request, &proxies).and_then(|url| url.text());
        url.unwrap_or_default()
    }

    #[test]
    fn it_is_what_the_request_names() {
        let host = (&header::HOST, "api.example:8000");
        assert_eq!(base_url("192.0.2.1", "/a", &[host]), "http://api.example:8000");
        assert_eq!(
            base_url("192.0.2.1", "http://other.example/a", &[host]),
            "http://other.example"
        );
        assert_eq!(base_url("192.0.2.1", "/a", &[(&header::HOST, "[::1]")]), "http://[::1]");
        assert_eq!(base_url("192.0.2.1", "/a", &[]), "");
        assert_eq!(base_url("192.0.2.1", "/a", &[(&header::HOST, "a\"b")]), "");
    }

    #[test]
    fn only_a_trusted_proxy_may_say_otherwise() {
        let host = (&header::HOST, "gateway:8000");
        let lines = [
            host,
            (&X_FORWARDED_PROTO, "https"),
            (&X_FORWARDED_HOST, "api.example"),
            (&header::FORWARDED, "for=192.0.2.9;proto=https;host=api.example"),
        ];
        for counted in [&lines[..3], &[host, lines[3]], &lines] {
            assert_eq!(base_url("10.0.0.1", "/a", counted), "https://api.example");
            assert_eq!(base_url("192.0.2.1", "/a", counted), "http://gateway:8000");
        }
        assert_eq!(base_url("10.0.0.1", "/a", &lines[..2]), "https://gateway:8000");
    }

    #[test]
    fn what_is_not_clear_does_not_count() {
        let host = (&header::HOST, "gateway");
        for unclear in [
            [(&X_FORWARDED_PROTO, "https, http"), (&X_FORWARDED_HOST, "a.example, b.example")],
            [(&X_FORWARDED_PROTO, "ftp"), (&X_FORWARDED_HOST, "a\"b")],
            [(&X_FORWARDED_HOST, "a.example"), (&header::FORWARDED, "host=b.example")],
            [(&X_FORWARDED_HOST, "a.example"), (&X_FORWARDED_HOST, "a.example")],
            [(&header::FORWARDED, "host=a.example"), (&header::FORWARDED, "proto=https")],
            [(&header::FORWARDED, "host=\"a.example"), (&header::FORWARDED, "proto=https")],
            [(&header::FORWARDED, "host=a;host=b"), (&X_FORWARDED_PROTO, "")],
        ] {
            let lines = [&[host], &unclear[..]].concat();
            assert_eq!(base_url("10.0.0.1", "/a", &lines), "http://gateway", "{unclear:?}");
        }
    }
}
