//! What holds for the parsers here, whatever the input. Fuzz targets and property tests call these
//! functions, which panic if it does not hold.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::{
    Origin,
    http::lists::{self, Quotes},
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

/// An origin is written as browsers write it, which is read as the same.
pub fn origin(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(origin) = text.parse::<Origin>() else { return };
    let written = origin.as_str();
    assert_eq!(written.parse::<Origin>().ok().as_ref(), Some(&origin), "{written}");
    assert!(HeaderValue::from_str(written).is_ok(), "{written}");
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
        }

        #[test]
        fn lists_of_what_matters(text in "([a-z=;, \t\n\\\\\"]|\"[a-z,;\\\\]{0,4}\"){0,30}") {
            lists(text.as_bytes());
        }

        #[test]
        fn origins(
            text in "(https?|ftp|capacitor|ws)://([a-zA-Z0-9.é%-]{1,12}|\\[[0-9a-f:]{2,9}\\])(:[0-9]{0,5})?/?",
        ) {
            origin(text.as_bytes());
        }
    }
}
