//! Web origins (RFC 6454), as settings list them and browsers send them.

use std::str::FromStr;

use http::{HeaderValue, Request, header};
use url::{Host, Url};

use crate::http::rules::host_and_port;

/// An entry of a list of origins: an origin, all subdomains of a domain, `null`, or all origins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginPattern(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// `*`
    Any,
    /// `https://app.example` as browsers send it, or `null`, which they send for a page without an
    /// origin of its own, such as a local file.
    Exact(String),
    /// `https://*.example.com`, as `https://` and `.example.com`.
    Subdomains { scheme: String, suffix: String },
}

/// Schemes whose pages, if there are any, have no origin but `null`.
const WITHOUT_ORIGIN: [&str; 10] = [
    "about",
    "blob",
    "data",
    "file",
    "filesystem",
    "ftp",
    "ftps",
    "javascript",
    "mailto",
    "view-source",
];

/// Invalid entry of a list of origins.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum InvalidOrigin {
    /// The text is no origin.
    #[error(
        "each entry must be a scheme and a host such as https://app.example, \
         all subdomains such as https://*.app.example, null, or * for all origins"
    )]
    Form,
    /// The scheme is that of a WebSocket.
    #[error(
        "the origin of a WebSocket is that of its page: write https:// instead of wss://, and http:// \
         instead of ws://"
    )]
    WebSocket,
    /// No browser sends an origin with this scheme.
    #[error("pages of this scheme have no origin of their own: browsers send null")]
    NoOrigin,
}

impl OriginPattern {
    /// Returns true for `*`.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.0 == Kind::Any
    }

    /// Returns true if the value of an `Origin` header is among these origins.
    #[must_use]
    pub fn matches(&self, origin: &[u8]) -> bool {
        match &self.0 {
            Kind::Any => true,
            Kind::Exact(listed) => listed.as_bytes().eq_ignore_ascii_case(origin),
            Kind::Subdomains { scheme, suffix } => {
                let labels = without_prefix(origin, scheme.as_bytes())
                    .and_then(|rest| without_suffix(rest, suffix.as_bytes()));
                labels.is_some_and(|labels| labels.split(|byte| *byte == b'.').all(is_label))
            }
        }
    }
}

impl FromStr for OriginPattern {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text == "*" {
            return Ok(Self(Kind::Any));
        }
        if text.eq_ignore_ascii_case("null") {
            return Ok(Self(Kind::Exact("null".to_owned())));
        }
        let Some((scheme, domain)) = text.split_once("://*.") else {
            return Ok(Self(Kind::Exact(parse(text)?.0)));
        };
        let (parent, is_domain) = parse(&format!("{scheme}://{domain}"))?;
        let (scheme, host) = parent.split_once("://").ok_or(InvalidOrigin::Form)?;
        let pattern =
            Kind::Subdomains { scheme: format!("{scheme}://"), suffix: format!(".{host}") };
        is_domain.then_some(Self(pattern)).ok_or(InvalidOrigin::Form)
    }
}

/// Returns true if a request comes from no page, from a page of the host that it asks, or from one of a listed origin.
/// WebSockets need this check, to which the same-origin policy does not apply.
#[must_use]
pub fn is_allowed<B>(request: &Request<B>, listed: &[OriginPattern]) -> bool {
    let is_allowed = |origin: &HeaderValue| {
        listed.iter().any(|pattern| pattern.matches(origin.as_bytes()))
            || is_own(request, origin.as_bytes()).unwrap_or_default()
    };
    request.headers().get_all(header::ORIGIN).iter().all(is_allowed)
}

/// Returns true if `origin` has the host and the port that the request asks; `None` if it has none. The schemes are not
/// compared: a proxy may have ended TLS. So a request that names no port may have come to that of either scheme.
fn is_own<B>(request: &Request<B>, origin: &[u8]) -> Option<bool> {
    let (host, usual) = match without_prefix(origin, b"https://") {
        Some(host) => (host, 443),
        None => (without_prefix(origin, b"http://")?, 80),
    };
    let (host, port) = host_and_port(host)?;
    // A target that names a host has precedence (RFC 9112, section 3.2.2).
    let (asked_host, asked_port) = match request.uri().authority() {
        Some(authority) => host_and_port(authority.as_str().as_bytes())?,
        None => host_and_port(request.headers().get(header::HOST)?.as_bytes())?,
    };
    let same_port = port.unwrap_or(usual) == asked_port.unwrap_or(usual);
    Some(host.eq_ignore_ascii_case(asked_host) && same_port)
}

/// Returns an origin as browsers send it, and whether its host is a name.
fn parse(text: &str) -> Result<(String, bool), InvalidOrigin> {
    let url = Url::parse(text).map_err(|_| InvalidOrigin::Form)?;
    match url.scheme() {
        "ws" | "wss" => return Err(InvalidOrigin::WebSocket),
        scheme if WITHOUT_ORIGIN.contains(&scheme) => return Err(InvalidOrigin::NoOrigin),
        _ => {}
    }
    // Parsing makes up for missing slashes, resolves the dots of a path, and drops tabs and line ends.
    let authority = text.get(url.scheme().len()..).and_then(|rest| rest.strip_prefix("://"));
    let has_no_path = authority.is_some_and(|authority| {
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        !authority.contains(|c: char| matches!(c, '/' | '\\') || c.is_ascii_control())
    });
    let nothing_else = has_no_path
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    // Like browsers, parsing has made scheme and host lower case and removed a default port.
    match url.host_str() {
        Some(host) if nothing_else && !host.is_empty() && !host.contains('*') => {
            let port = url.port().map_or(String::new(), |port| format!(":{port}"));
            let is_name = matches!(url.host(), Some(Host::Domain(_)));
            Ok((format!("{}://{host}{port}", url.scheme()), is_name))
        }
        _ => Err(InvalidOrigin::Form),
    }
}

fn is_label(label: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !label.is_empty() && label.iter().all(allowed)
}

fn without_prefix<'a>(text: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn without_suffix<'a>(text: &'a [u8], suffix: &[u8]) -> Option<&'a [u8]> {
    let (rest, end) = text.split_at_checked(text.len().checked_sub(suffix.len())?)?;
    end.eq_ignore_ascii_case(suffix).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, origin: &str) -> bool {
        pattern.parse::<OriginPattern>().unwrap().matches(origin.as_bytes())
    }

    #[test]
    fn it_matches_what_browsers_send() {
        assert!(matches("https://App.Example:443/", "https://app.example"));
        assert!(matches("http://a:81", "http://a:81"));
        assert!(matches("http://a:81", "HTTP://A:81"), "case does not matter");
        assert!(!matches("http://a:81", "http://a"));
        assert!(matches("http://[::1]:81", "http://[::1]:81"));
        assert!(matches("null", "null"));
        assert!(!matches("null", "https://null"));
        assert!(matches("*", "https://anywhere.example") && matches("*", "null"));
    }

    #[test]
    fn a_wildcard_stands_for_subdomains_of_any_depth() {
        let pattern = "https://*.example.com:8443";
        for origin in [
            "https://a.example.com:8443",
            "https://a.b-c.Example.com:8443",
            "HTTPS://a.example.com:8443",
        ] {
            assert!(matches(pattern, origin), "{origin}");
        }
        for origin in [
            "https://example.com:8443",
            "https://.example.com:8443",
            "https://a..example.com:8443",
            "https://evilexample.com:8443",
            "https://evil.test/.example.com:8443",
            "https://evil.test:1.example.com:8443",
            "https://a.example.com",
            "http://a.example.com:8443",
            "httpx://a.example.com:8443",
            "https://a.example.com.evil.test:8443",
            "null",
            "",
        ] {
            assert!(!matches(pattern, origin), "{origin}");
        }
    }

    #[test]
    fn a_scheme_that_browsers_send_in_no_origin_is_refused() {
        for text in ["wss://app.example", "ws://*.app.example", "WS://a:81"] {
            let error = text.parse::<OriginPattern>().unwrap_err().to_string();
            assert!(error.contains("https://"), "{text}: {error}");
        }
        for text in ["ftp://a", "javascript://a", "file://a", "data://a", "blob://*.a.example"] {
            let error = text.parse::<OriginPattern>().unwrap_err().to_string();
            assert!(error.contains("null"), "{text}: {error}");
        }
        assert!(matches("capacitor://localhost", "capacitor://localhost"));
        assert!(matches("moz-extension://a-b", "moz-extension://a-b"));
    }

    #[test]
    fn an_invalid_origin_is_refused() {
        for text in [
            "",
            "app.example",
            "https://a.example/path",
            "https://a.example/*./..",
            "https://a.example\\..",
            "https://a.example//",
            "https:a.example",
            "https:/a.example",
            "http:/a.example/..://",
            "https://a.\texample",
            "https://u@a.example",
            "data:x",
            "*.example.com",
            "https://*",
            "https://a.*.example",
            "https://*a.example",
            "https://*.*.example",
            "https://*.10.0.0.1",
            "https://*.",
            "https://a.example?x",
            "https://a.example#x",
            "https://:p@a.example",
        ] {
            assert!(text.parse::<OriginPattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_page_of_the_same_host_is_allowed_and_a_listed_one() {
        let listed = ["https://app.example".parse().unwrap()];
        let allowed = |target: &'static str, host: &'static str, origins: &[&'static str]| {
            let mut request = Request::get(target).header(header::HOST, host);
            for origin in origins {
                request = request.header(header::ORIGIN, *origin);
            }
            is_allowed(&request.body(()).unwrap(), &listed)
        };
        for (host, origin) in [
            ("h", "http://h"),
            // TLS ended at a proxy.
            ("h", "https://h"),
            ("H", "HTTPS://h"),
            ("h:443", "https://h"),
            ("h:80", "http://h"),
            ("h:8000", "http://h:8000"),
            ("h:8000", "https://h:8000"),
            ("[::1]:81", "http://[::1]:81"),
            ("h", "https://app.example"),
        ] {
            assert!(allowed("/", host, &[origin]), "{host} {origin}");
        }
        for (host, origin) in [
            ("h", "http://g"),
            ("h", "http://h:8000"),
            ("h:8000", "http://h"),
            ("h:443", "http://h"),
            ("h:80", "https://h"),
            ("h", "http://h.evil.test"),
            ("h", "http://evil.test/h"),
            ("h", "http://u@h"),
            ("h", "httpx://h"),
            ("h", "h"),
            ("h", "null"),
            ("h", ""),
        ] {
            assert!(!allowed("/", host, &[origin]), "{host} {origin}");
        }
        assert!(allowed("/", "h", &[]), "no page sent this");
        assert!(allowed("/", "h", &["http://h", "https://app.example"]));
        assert!(!allowed("/", "h", &["http://h", "http://g"]));
        // :authority, or the form of the target that proxies get.
        assert!(allowed("http://h:81/", "g", &["http://h:81"]));
        assert!(!allowed("http://h:81/", "g", &["http://g"]));
    }
}
