//! What holds for the parsers here, whatever the input. Fuzz targets and property tests call these
//! functions, which panic if it does not hold.

use std::net::{IpAddr, Ipv4Addr};

use contracts::{Content, MessageId, Timestamp, UserId};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header};
use ipnet::{IpNet, Ipv4Net};
use serde_json::Value;
use url::Url;

use crate::{
    OriginPattern,
    http::{
        client_address,
        fields::{self, Fields},
        lists::{self, Quotes},
        paths,
        prefer::{self, PREFER, Preference},
        rules,
    },
};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The trusted proxies, and one of them.
const TRUSTED: IpNet = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 8));
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

/// A client that a proxy names.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// The elements of a list are what they are however the list is divided into lines, and none is split
/// or joined again when it is read once more.
pub fn lists(data: &[u8]) {
    let name = header::FORWARDED;
    let headers = header_lines(&name, data);
    for quotes in [Quotes::Plain, Quotes::Strings, Quotes::EntityTags] {
        let elements: Vec<&[u8]> = lists::elements(&headers, &name, quotes).collect();
        for element in &elements {
            assert!(!element.is_empty());
            assert_eq!(element.trim_ascii(), *element);
            let alone = header_lines(&name, element);
            assert_eq!(lists::elements(&alone, &name, quotes).collect::<Vec<_>>(), [*element]);
            for parameter in lists::parameters(element).flatten() {
                assert!(!parameter.name.is_empty());
            }
        }
        if quotes == Quotes::Plain {
            let naive = headers.get_all(&name).into_iter();
            let naive = naive.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
            let naive = naive.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty());
            assert_eq!(elements, naive.collect::<Vec<_>>());
        }
    }
    quoted_value(data);
}

/// A value that is sent as a quoted string is read as it was, and ends no element.
fn quoted_value(value: &[u8]) {
    let mut element = b"a=\"".to_vec();
    for byte in value {
        if matches!(byte, b'"' | b'\\') {
            element.push(b'\\');
        }
        element.push(*byte);
    }
    element.extend(b"\", b");
    let Ok(line) = HeaderValue::from_bytes(&element) else { return };
    let headers = HeaderMap::from_iter([(header::FORWARDED, line)]);
    let elements: Vec<&[u8]> =
        lists::elements(&headers, &header::FORWARDED, Quotes::Strings).collect();
    let [first, b"b"] = elements[..] else { panic!("{elements:?}") };
    let parameters: Vec<_> = lists::parameters(first).collect();
    let [Some(parameter)] = &parameters[..] else { panic!("{parameters:?}") };
    assert_eq!((parameter.name, parameter.value.as_deref()), ("a", Some(value)));
}

/// A target and headers, each on a line, are refused or accepted. If accepted, there is one host.
pub fn request(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let Some(Ok(mut uri)) = lines.next().map(Uri::try_from) else { return };
    let length = uri.path().len();
    paths::normalize(&mut uri);
    assert!(uri.path().len() <= length.max(1));
    let mut request = Request::new(String::new());
    *request.uri_mut() = uri;
    for line in lines {
        let Some(at) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (HeaderName::from_bytes(&line[..at]), line[at + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            request.headers_mut().append(name, value);
        }
    }
    if rules::early_response(&request).is_none() {
        let hosts: Vec<_> = request.headers().get_all(header::HOST).iter().collect();
        let [host] = hosts[..] else { panic!("{hosts:?}") };
        assert!(host.to_str().is_ok_and(|host| !host.contains(['@', ',', ' ', '/'])), "{host:?}");
    }
}

/// A listed origin matches itself as browsers send it, and all subdomains do not match their parent.
pub fn origin(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(pattern) = text.parse::<OriginPattern>() else { return };
    let _ = pattern.matches(data);
    let parent = text.replacen("*.", "", 1);
    let Ok(url) = Url::parse(&parent) else { return };
    if matches!(url.scheme(), "http" | "https") {
        let sent = url.origin().ascii_serialization();
        assert_eq!(pattern.matches(sent.as_bytes()), parent == text, "{text} {sent}");
    }
}

/// A body is read as `serde_json` reads it, and refused with the status that says why.
pub fn body(data: &[u8]) {
    let reference = serde_json::from_slice::<Value>(data);
    let mut fields = match (Fields::parse(data), &reference) {
        (Ok(fields), Ok(Value::Object(_))) => fields,
        (Err(problem), Ok(_)) => return assert_eq!(problem.status, 422),
        // An array is refused before its end is read.
        (Err(problem), Err(_)) => return assert!(matches!(problem.status, 400 | 422)),
        (Ok(_), _) => panic!("what is no object was read as one"),
    };
    let reference = reference.unwrap_or_default();
    let user_id = fields.optional("from_user_id", fields::user_id);
    let content = fields.optional("content", fields::content);
    let timestamp = fields.parsed("edit_timestamp", "", "", |text| text.parse::<Timestamp>().ok());
    let id = fields.parsed("id", "", "", |text| text.parse::<MessageId>().ok());
    fields.ignore_unknown();
    if let Err(problem) = fields.finish(Some(())) {
        assert_eq!(problem.status, 422);
        let duplicate = problem.errors.iter().any(|error| error.kind == "duplicate_member");
        assert!(
            duplicate
                || ["from_user_id", "content", "edit_timestamp", "id"]
                    .into_iter()
                    .any(|name| reference.get(name).is_some()),
            "{problem:?}"
        );
        return;
    }
    match (user_id.as_ref().map(UserId::as_str), &reference["from_user_id"]) {
        (Some(read), Value::String(sent)) => assert_eq!(read, sent),
        (Some(read), Value::Number(sent)) => {
            assert_eq!(read.parse::<f64>().ok(), sent.as_f64());
            assert!(read.parse::<i128>().is_ok_and(|integer| integer.to_string() == read));
        }
        (read, sent) => assert!(read.is_none() && sent.is_null(), "{sent} was read as {read:?}"),
    }
    assert_eq!(content.as_ref().map(Content::as_str), reference["content"].as_str());
    assert_eq!(timestamp.is_some(), reference["edit_timestamp"].is_string());
    assert_eq!(id.is_some(), reference["id"].is_string());
}

/// A preference is applied as it is said to be.
pub fn prefer(data: &[u8]) {
    let Some(preference) = Preference::read(&header_lines(&PREFER, data)) else { return };
    if let Preference::Wait(wait) = preference {
        assert!(wait <= prefer::MAX_WAIT);
    }
    let mut response = HeaderMap::new();
    preference.apply_to(&mut response);
    let applied = response.into_iter().map(|(_, value)| (PREFER, value));
    assert_eq!(Preference::read(&applied.collect()), Some(preference));
}

/// What a client sends before a trusted proxy's part of a header does not change its address, and
/// neither does one more trusted proxy. What it sends in the other header can only hide it.
pub fn client_address(data: &[u8]) {
    let headers = |lines: &[HeaderValue], name: &HeaderName| {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, line.clone());
        }
        headers
    };
    let read = |lines: &[HeaderValue], name: &HeaderName, trusted: &[IpNet]| {
        client_address::client_address(PEER, &headers(lines, name), trusted)
    };
    let lines = data.split(|byte| *byte == b'\n').map(HeaderValue::from_bytes);
    let Ok(lines) = lines.collect::<Result<Vec<_>, _>>() else { return };
    let known = [
        (X_FORWARDED_FOR, "192.0.2.1", "10.0.0.2"),
        (header::FORWARDED, "for=192.0.2.1", "for=10.0.0.2;proto=http"),
    ];
    for (name, forged, proxy) in &known {
        assert_eq!(read(&lines, name, &[]), PEER, "nobody is trusted");
        let address = read(&lines, name, &[TRUSTED]);
        if TRUSTED.contains(&address) {
            continue;
        }
        let forged = [&[HeaderValue::from_static(forged)], &lines[..]].concat();
        assert_eq!(read(&forged, name, &[TRUSTED]), address);
        let one_more = [&lines[..], &[HeaderValue::from_static(proxy)]].concat();
        assert_eq!(read(&one_more, name, &[TRUSTED]), address);
    }
    let [listed, forwarded] = &known;
    for ((written, client, _), (other, _, _)) in [(listed, forwarded), (forwarded, listed)] {
        let mut both = headers(&lines, other);
        both.insert(written, HeaderValue::from_static(client));
        let address = client_address::client_address(PEER, &both, &[TRUSTED]);
        assert!(address == PEER || address == CLIENT, "{address}");
    }
}

/// Returns a header with a line for each line of the input that can be one.
fn header_lines(name: &HeaderName, data: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(name, value);
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn any_bytes(data in vec(any::<u8>(), 0..100)) {
            lists(&data);
            origin(&data);
            request(&data);
            body(&data);
            prefer(&data);
            client_address(&data);
        }

        #[test]
        fn lists_of_what_matters(text in "([a-z=;, \t\n\\\\\"]|\"[a-z,;\\\\]{0,4}\"){0,30}") {
            lists(text.as_bytes());
        }

        #[test]
        fn requests(
            text in "(http://[a-z@:0-9]{1,9})?/?[a-z%0-9./*]{0,9}\n((host|transfer-encoding|content-encoding|expect|content-type): ?(\\[::1\\]|[a-z@:, /0-9]{0,12})\n){0,3}",
        ) {
            request(text.as_bytes());
        }

        #[test]
        fn bodies(
            members in vec((
                "(from_user_id|content|edit_timestamp|id|x)",
                "(-?[0-9]{1,20}(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,3})?|\"[^\"\\\\\u{0}-\u{1f}]{0,70}\"|\"(\\\\u[0-9a-f]{4}){1,2}\"|null|true|\\[1\\]|\\{\\}|NaN)",
            ), 0..6),
            cut in any::<proptest::sample::Index>(),
        ) {
            let members: Vec<String> =
                members.into_iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
            let text = format!("{{{}}}", members.join(","));
            body(text.as_bytes());
            body(&text.as_bytes()[..cut.index(text.len())]);
        }

        #[test]
        fn preferences(
            text in "((respond-async|wait|Wait|x)( ?= ?(\"?[0-9]{0,12}\"?|\"[a-z,;\\\\]{0,4}\"))?(; ?a=b)?[,\n ]{1,2}){0,5}",
        ) {
            prefer(text.as_bytes());
        }

        #[test]
        fn addresses(
            text in "((for=|FOR=|by=)?\"?(\\[?(10\\.0\\.0\\.[1-3]|192\\.0\\.2\\.[1-3]|::ffff:10\\.0\\.0\\.3|2001:db8::[1-3])\\]?(:([0-9]{1,5}|_[a-z.]{0,2}))?|unknown|_x)?\"?[;, \n\\\\]{1,2}){0,5}",
        ) {
            client_address(text.as_bytes());
        }

        #[test]
        fn origins(
            text in "(https?|ftp|capacitor|ws)://(\\*\\.)?([a-zA-Z0-9.é%-]{1,12}|\\[[0-9a-f:]{2,9}\\])(:[0-9]{0,5})?/?",
        ) {
            origin(text.as_bytes());
        }
    }
}
