//! What holds for the parsers here, whatever the input. Fuzz targets and property tests call these
//! functions, which panic if it does not hold.

use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header};

use url::Url;

use crate::{
    OriginPattern,
    http::{
        lists::{self, Quotes},
        paths, rules,
    },
};

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
        fn origins(
            text in "(https?|ftp|capacitor|ws)://(\\*\\.)?([a-zA-Z0-9.é%-]{1,12}|\\[[0-9a-f:]{2,9}\\])(:[0-9]{0,5})?/?",
        ) {
            origin(text.as_bytes());
        }
    }
}
