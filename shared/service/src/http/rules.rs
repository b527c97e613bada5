//! Rules of HTTP that every request must keep, whatever it asks for: its target and `Host` (RFC 9112, section 3), and
//! metadata that would change the meaning of its body.

use std::net::Ipv6Addr;

use ::http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header,
    uri::Scheme,
};
use contracts::{Problem, ProblemKind};
use hyper::body::Body as HttpBody;

use super::{
    body::Body,
    lists::{Quotes, elements},
    methods, problem,
};

const HOST_FORM: &str = "a host name or an address, and a port if it is not the usual one";

/// Returns the response to a request that breaks a rule, or that asks for the server as a whole; `None` if the service
/// must respond.
pub fn early_response<B: HttpBody>(request: &Request<B>) -> Option<Response<Body>> {
    let checked = check_target(request).and_then(|()| check_body(request));
    let Err(broken) = checked else {
        return is_for_the_server(request).then(methods::no_content);
    };
    let mut response = problem::response(&broken, problem::NO_RETRY);
    if response.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE {
        let identity = HeaderValue::from_static("identity");
        response.headers_mut().insert(header::ACCEPT_ENCODING, identity);
    }
    Some(response)
}

/// Returns true for `OPTIONS *`, which asks for no resource.
fn is_for_the_server<B>(request: &Request<B>) -> bool {
    request.method() == Method::OPTIONS && request.uri().path() == "*"
}

fn bad_request(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemKind::BadRequest, detail.into())
}

/// Checks the target of a request, and the `Host` that is a part of it.
fn check_target<B>(request: &Request<B>) -> Result<(), Problem> {
    let uri = request.uri();
    let is_connect = request.method() == Method::CONNECT;
    let is_http = uri.scheme().is_none_or(|it| *it == Scheme::HTTP || *it == Scheme::HTTPS);
    let has_path = uri.path().starts_with('/') || is_for_the_server(request);
    if !(is_connect || has_path && is_http) {
        let detail = "the request's target must be a path, such as /api/messages, or a URL that begins with http";
        return Err(bad_request(detail));
    }
    check_host(request)?;
    if is_connect {
        let detail = "this service is not a proxy; send the request without CONNECT";
        return Err(Problem::new(ProblemKind::NotImplemented, detail));
    }
    Ok(())
}

/// Checks that a request names one host, in its target or in `Host`.
fn check_host<B>(request: &Request<B>) -> Result<(), Problem> {
    let uri = request.uri();
    let target = match uri.authority() {
        Some(authority) => Some(host_and_port(authority.as_str().as_bytes()).ok_or_else(|| {
            bad_request(format!("the request's target must name {HOST_FORM}, and no user"))
        })?),
        None => None,
    };
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host,
        (Some(_), Some(_)) => return Err(bad_request("send exactly one Host header, not several")),
        (None, _) => {
            // The target of HTTP/2 names the host itself, and HTTP/1.0 has no such header.
            let is_needed = match request.version() {
                Version::HTTP_2 => target.is_none(),
                version => version > Version::HTTP_10,
            };
            let missing = || bad_request(format!("send a Host header: {HOST_FORM}"));
            return if is_needed { Err(missing()) } else { Ok(()) };
        }
    };
    let host = host_and_port(host.as_bytes())
        .ok_or_else(|| bad_request(format!("the Host header is not {HOST_FORM}")))?;
    // In HTTP/1.1 a target that names a host has precedence (RFC 9112, section 3.2.2).
    if request.version() == Version::HTTP_2
        && target.is_some_and(|target| !is_same(target, host, uri.scheme()))
    {
        let detail = "the Host header names another host than :authority; send one of them only";
        return Err(bad_request(detail));
    }
    Ok(())
}

/// Checks what gives a body another meaning than its bytes alone have.
fn check_body<B: HttpBody>(request: &Request<B>) -> Result<(), Problem> {
    let headers = request.headers();
    let is = |name, expected| all_are(headers, name, expected);
    // Chunks within chunks are one coding too many, as gzip is.
    let codings = elements(headers, &header::TRANSFER_ENCODING, Quotes::Strings).count();
    if codings > 1 || !is(&header::TRANSFER_ENCODING, "chunked") {
        let detail = "the only Transfer-Encoding that this service can read is chunked; send the body without another";
        return Err(Problem::new(ProblemKind::NotImplemented, detail));
    }
    if !is(&header::EXPECT, "100-continue") && request.version() > Version::HTTP_10 {
        let detail =
            "the only expectation that this service can meet is 100-continue; send no other Expect";
        return Err(Problem::new(ProblemKind::ExpectationFailed, detail));
    }
    if !is(&header::CONTENT_ENCODING, "identity") && !request.body().is_end_stream() {
        let detail =
            "the body has a Content-Encoding, which this service cannot decode; send it as it is";
        return Err(Problem::new(ProblemKind::UnsupportedMediaType, detail));
    }
    if request.method() == Method::PUT && headers.contains_key(header::CONTENT_RANGE) {
        return Err(bad_request(
            "a part cannot be replaced; send all of it, without Content-Range",
        ));
    }
    Ok(())
}

/// Returns true if each element of the header is `expected`.
fn all_are(headers: &HeaderMap, name: &HeaderName, expected: &str) -> bool {
    elements(headers, name, Quotes::Strings)
        .all(|element| element.eq_ignore_ascii_case(expected.as_bytes()))
}

/// Parses `uri-host [ ":" port ]` (RFC 9110, section 7.2). A user name is no part of it, and a comma, which a host name
/// could have, comes from two of them.
pub(crate) fn host_and_port(text: &[u8]) -> Option<(&str, Option<u16>)> {
    let text = std::str::from_utf8(text).ok()?;
    let end = match text.strip_prefix('[') {
        Some(address) => address.find(']')? + 2,
        None => text.find(':').unwrap_or(text.len()),
    };
    let (host, port) = text.split_at(end);
    let is_host = match host.strip_prefix('[') {
        Some(address) => address.trim_end_matches(']').parse::<Ipv6Addr>().is_ok(),
        None => is_name(host),
    };
    let port = match port.strip_prefix(':') {
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => port,
        None if port.is_empty() => "",
        _ => return None,
    };
    let port = if port.is_empty() { None } else { Some(port.parse().ok()?) };
    is_host.then_some((host, port))
}

/// Returns true for a `reg-name` (RFC 3986, section 3.2.2), or an IPv4 address.
fn is_name(host: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(&byte);
    let mut parts = host.split('%');
    let first = parts.next().unwrap_or_default();
    let is_escaped = |part: &str| {
        let (escape, rest) = part.as_bytes().split_at_checked(2)?;
        let is_hex = escape.iter().all(u8::is_ascii_hexdigit);
        Some(is_hex && rest.iter().copied().all(is_allowed))
    };
    !host.is_empty()
        && first.bytes().all(is_allowed)
        && parts.all(|part| is_escaped(part).unwrap_or_default())
}

fn is_same(one: (&str, Option<u16>), other: (&str, Option<u16>), scheme: Option<&Scheme>) -> bool {
    let usual = if scheme == Some(&Scheme::HTTPS) { 443 } else { 80 };
    one.0.eq_ignore_ascii_case(other.0) && one.1.unwrap_or(usual) == other.1.unwrap_or(usual)
}

#[cfg(test)]
mod tests {
    use http_body_util::{Empty, Full};

    use super::*;

    fn status(change: impl FnOnce(&mut Request<Full<&'static [u8]>>)) -> Option<u16> {
        let mut request = Request::new(Full::new(&b"{}"[..]));
        request.headers_mut().insert(header::HOST, HeaderValue::from_static("h"));
        *request.uri_mut() = "/".parse().unwrap();
        change(&mut request);
        early_response(&request).map(|response| response.status().as_u16())
    }

    fn with(name: &HeaderName, lines: &'static [&'static str]) -> Option<u16> {
        status(|request| {
            request.headers_mut().remove(name);
            for line in lines {
                let value = HeaderValue::from_bytes(line.as_bytes()).unwrap();
                request.headers_mut().append(name, value);
            }
        })
    }

    #[test]
    fn http_1_1_needs_one_valid_host() {
        for valid in [
            &["example.com"],
            &["example.com:8000"],
            &["a_b-c.d:"],
            &["127.0.0.1:1"],
            &["[::1]"],
            &["[2001:DB8::1]:65535"],
            &["a%C3%A4"],
        ] {
            assert_eq!(with(&header::HOST, valid), None, "{valid:?}");
        }
        for invalid in [
            &["a b"] as &[_],
            &["a,b"],
            &["u@h"],
            &["u:p@h"],
            &["h:x"],
            &["h:+1"],
            &["h:65536"],
            &["h:1:2"],
            &["ä.example"],
            &[""],
            &[":80"],
            &["[::1"],
            &["[x]"],
            &["::1"],
            &["[::1]x"],
            &["h/"],
            &["h?"],
            &["h%2"],
            &["h%zz"],
            &["http://h"],
            &["[]"],
            &["h]"],
            &["a\tb"],
            &["h", "h"],
            &["a", "b"],
            &[],
        ] {
            assert_eq!(with(&header::HOST, invalid), Some(400), "{invalid:?}");
        }
    }

    #[test]
    fn http_1_0_needs_no_host_and_http_2_has_it_in_its_target() {
        let asked = |version, target: &'static str, host: Option<&'static str>| {
            status(|request| {
                *request.version_mut() = version;
                *request.uri_mut() = target.parse().unwrap();
                request.headers_mut().remove(header::HOST);
                if let Some(host) = host {
                    request.headers_mut().insert(header::HOST, HeaderValue::from_static(host));
                }
            })
        };
        assert_eq!(asked(Version::HTTP_10, "/", None), None);
        assert_eq!(asked(Version::HTTP_10, "/", Some("a b")), Some(400));
        for same in [None, Some("h"), Some("H:80")] {
            assert_eq!(asked(Version::HTTP_2, "http://h/", same), None, "{same:?}");
        }
        assert_eq!(asked(Version::HTTP_2, "/", Some("h")), None);
        assert_eq!(asked(Version::HTTP_2, "/", None), Some(400));
        assert_eq!(asked(Version::HTTP_2, "http://u@h/", None), Some(400));
        for other in ["g", "h:81"] {
            assert_eq!(asked(Version::HTTP_2, "http://h/", Some(other)), Some(400), "{other}");
        }
        // A proxy's form of the target, which has precedence over Host.
        assert_eq!(asked(Version::HTTP_11, "http://h:1/", Some("g")), None);
        assert_eq!(asked(Version::HTTP_11, "http://h/", None), Some(400));
        assert_eq!(asked(Version::HTTP_11, "http://u@h/", Some("h")), Some(400));
        assert_eq!(asked(Version::HTTP_11, "ftp://h/", Some("h")), Some(400));
        assert_eq!(asked(Version::HTTP_11, "h:80", Some("h")), Some(400));
        assert_eq!(asked(Version::HTTP_11, "*", Some("h")), Some(400));
    }

    #[test]
    fn the_server_as_a_whole_has_options_and_is_no_proxy() {
        let asked = |method, target: &'static str| {
            status(|request| {
                *request.method_mut() = method;
                *request.uri_mut() = target.parse().unwrap();
            })
        };
        assert_eq!(asked(Method::OPTIONS, "*"), Some(204));
        assert_eq!(asked(Method::OPTIONS, "/"), None);
        assert_eq!(asked(Method::CONNECT, "h:80"), Some(501));
        // They keep the rules of any other request.
        let broken = |name: HeaderName, value: &'static str, method, target: &'static str| {
            status(|request| {
                *request.method_mut() = method;
                *request.uri_mut() = target.parse().unwrap();
                request.headers_mut().remove(header::HOST);
                request.headers_mut().append(name, HeaderValue::from_static(value));
            })
        };
        for (method, target) in [(Method::OPTIONS, "*"), (Method::CONNECT, "h:80")] {
            assert_eq!(broken(header::ACCEPT, "*/*", method.clone(), target), Some(400));
            assert_eq!(broken(header::HOST, "a,b", method, target), Some(400));
        }
        for (name, value, refusal) in
            [(header::EXPECT, "tea", 417), (header::TRANSFER_ENCODING, "gzip, chunked", 501)]
        {
            let refused = status(|request| {
                *request.method_mut() = Method::OPTIONS;
                *request.uri_mut() = "*".parse().unwrap();
                request.headers_mut().append(name, HeaderValue::from_static(value));
            });
            assert_eq!(refused, Some(refusal));
        }
    }

    #[test]
    fn metadata_that_changes_the_meaning_of_a_body_is_refused() {
        assert_eq!(with(&header::TRANSFER_ENCODING, &["Chunked"]), None);
        for coded in [
            &["gzip, chunked"] as &[_],
            &["gzip", "chunked"],
            &["identity, chunked"],
            &["chunked", "chunked"],
        ] {
            assert_eq!(with(&header::TRANSFER_ENCODING, coded), Some(501), "{coded:?}");
        }
        assert_eq!(with(&header::CONTENT_ENCODING, &["identity, ", "Identity"]), None);
        for coded in [&["gzip"] as &[_], &["identity, br"], &["identity", "x-gzip"], &["ä"]] {
            assert_eq!(with(&header::CONTENT_ENCODING, coded), Some(415), "{coded:?}");
        }
        assert_eq!(with(&header::EXPECT, &["100-Continue"]), None);
        assert_eq!(with(&header::EXPECT, &["100-continue, tea"]), Some(417));
        let ranged = |method| {
            status(|request| {
                *request.method_mut() = method;
                let range = HeaderValue::from_static("bytes 0-1/2");
                request.headers_mut().insert(header::CONTENT_RANGE, range);
            })
        };
        assert_eq!(ranged(Method::PUT), Some(400));
        // It has a meaning in a PUT only (RFC 9110, section 14.4).
        assert_eq!(ranged(Method::POST), None);
    }

    #[test]
    fn a_refused_coding_tells_which_is_accepted_and_no_body_needs_none() {
        let request = |body| {
            let request = Request::post("/").header(header::HOST, "h");
            request.header(header::CONTENT_ENCODING, "gzip").body(body).unwrap()
        };
        let refused = early_response(&request(Full::new(&b"{}"[..]))).unwrap();
        assert_eq!(refused.headers()[header::ACCEPT_ENCODING], "identity");
        let empty = request(Full::new(&b""[..])).map(|_| Empty::<&[u8]>::new());
        assert!(early_response(&empty).is_none());
    }
}
