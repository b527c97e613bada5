//! List-valued headers (RFC 9110, section 5.6). All services read them here, since a comma does not end an element
//! within quotes, and an empty element counts for nothing.
//!
//! The parser is our own: the crates there are each read one header only, as text, and give up at the first mistake.

use std::borrow::Cow;

use ::http::{HeaderMap, HeaderName};

/// What a double quote means in a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quotes {
    /// Nothing, as in `X-Forwarded-For` and in lists of tokens.
    Plain,
    /// It begins or ends a quoted string, in which a backslash escapes the next character (section 5.6.4).
    Strings,
    /// It begins or ends an entity tag, in which a backslash is a character like others (section 8.8.3).
    EntityTags,
}

/// One `name=value`, or a name without a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter<'a> {
    /// The name as it was sent; case does not matter.
    pub name: &'a str,
    /// The value, without quotes and escapes.
    pub value: Option<Cow<'a, [u8]>>,
}

/// Returns the elements of the header `name`, from all of its lines, without the white space around them. Empty ones are
/// left out. An element whose quote does not end reaches to the end of its line.
pub fn elements<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    quotes: Quotes,
) -> impl Iterator<Item = &'a [u8]> {
    let lines = headers.get_all(name).into_iter();
    lines.flat_map(move |line| split(line.as_bytes(), b',', quotes))
}

/// Returns the parameters of an element, which semicolons separate; `None` stands for one that is malformed. Of
/// `text/html; q=0.5`, the first is the name `text/html`.
pub fn parameters(element: &[u8]) -> impl Iterator<Item = Option<Parameter<'_>>> {
    split(element, b';', Quotes::Strings).map(parameter)
}

/// Returns the weight among an element's parameters (RFC 9110, section 12.4.2): 1 if there is none, `None` if it is
/// malformed.
pub fn weight<'a>(mut parameters: impl Iterator<Item = Parameter<'a>>) -> Option<f32> {
    let weight = parameters.find(|parameter| parameter.name.eq_ignore_ascii_case("q"));
    let Some(weight) = weight else { return Some(1.0) };
    let value = weight.value?;
    // Numbers have other forms, such as `inf`.
    let is_decimal = value.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    let weight = std::str::from_utf8(&value).ok().filter(|_| is_decimal)?;
    weight.parse().ok().map(|weight: f32| weight.min(1.0))
}

/// Returns true if the header `name`, a list of tokens, has `token` in any of its lines. Case does not matter.
#[must_use]
pub fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    elements(headers, name, Quotes::Plain)
        .any(|listed| listed.eq_ignore_ascii_case(token.as_bytes()))
}

/// Returns the parts of `text` that are not empty, without the white space around them.
fn split(text: &[u8], separator: u8, quotes: Quotes) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    let all = std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = end_of_part(rest, separator, quotes);
        let part = rest[..end].trim_ascii();
        rest = rest.get(end + 1..).unwrap_or_default();
        Some(part)
    });
    all.filter(|part| !part.is_empty())
}

/// Returns where the first part ends.
fn end_of_part(text: &[u8], separator: u8, quotes: Quotes) -> usize {
    let (mut inside, mut escaped) = (false, false);
    let ends = |&byte: &u8| match byte {
        _ if escaped => {
            escaped = false;
            false
        }
        b'\\' if inside && quotes == Quotes::Strings => {
            escaped = true;
            false
        }
        b'"' if quotes != Quotes::Plain => {
            inside = !inside;
            false
        }
        byte => byte == separator && !inside,
    };
    text.iter().position(ends).unwrap_or(text.len())
}

fn parameter(text: &[u8]) -> Option<Parameter<'_>> {
    let (name, value) = match text.iter().position(|byte| *byte == b'=') {
        Some(at) => (&text[..at], Some(unquote(text[at + 1..].trim_ascii_start())?)),
        None => (text, None),
    };
    let name = std::str::from_utf8(name.trim_ascii_end()).ok()?;
    let is_valid = |byte: u8| byte.is_ascii_graphic() && byte != b'"';
    (!name.is_empty() && name.bytes().all(is_valid)).then_some(Parameter { name, value })
}

/// Returns the value that a token or a quoted string stands for. A value without quotes may have characters that a token
/// may not, such as a colon: many senders leave the quotes out.
fn unquote(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    let Some(quoted) = value.strip_prefix(b"\"") else {
        let is_bare = |byte: &u8| !byte.is_ascii_whitespace() && *byte != b'"';
        return (!value.is_empty() && value.iter().all(is_bare)).then_some(Cow::Borrowed(value));
    };
    let inner = quoted.strip_suffix(b"\"")?;
    if !inner.iter().any(|byte| matches!(byte, b'"' | b'\\')) {
        return Some(Cow::Borrowed(inner));
    }
    let mut plain = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            // It ends the string too early, or its last quote is an escaped one.
            b'"' => return None,
            b'\\' => plain.push(*bytes.next()?),
            _ => plain.push(*byte),
        }
    }
    Some(Cow::Owned(plain))
}

#[cfg(test)]
mod tests {
    use ::http::{HeaderValue, header};

    use super::*;

    fn list(lines: &[&[u8]], quotes: Quotes) -> Vec<String> {
        let values = lines.iter().map(|line| HeaderValue::from_bytes(line).unwrap());
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::FORWARDED, value);
        }
        elements(&headers, &header::FORWARDED, quotes)
            .map(|element| element.escape_ascii().to_string())
            .collect()
    }

    #[test]
    fn lines_are_joined_and_empty_elements_left_out() {
        for quotes in [Quotes::Plain, Quotes::Strings, Quotes::EntityTags] {
            let lines: [&[u8]; 4] = [b" a ,, b\t,", b"", b" , ", b",c d"];
            assert_eq!(list(&lines, quotes), ["a", "b", "c d"], "{quotes:?}");
        }
    }

    #[test]
    fn a_comma_within_quotes_ends_no_element() {
        let line: &[u8] = br#"for=a;host="x,for=b", "c\",d", e"#;
        let elements = [r#"for=a;host=\"x,for=b\""#, r#"\"c\\\",d\""#, "e"];
        assert_eq!(list(&[line], Quotes::Strings), elements);
        assert_eq!(
            list(&[br#""a,b\", W/"c""#], Quotes::EntityTags),
            [r#"\"a,b\\\""#, r#"W/\"c\""#]
        );
        assert_eq!(list(&[br#""a,b"#], Quotes::Plain), [r#"\"a"#, "b"]);
        // Outside of quotes, a backslash escapes nothing.
        assert_eq!(list(&[br"a\,b"], Quotes::Strings), [r"a\\", "b"]);
        assert_eq!(list(&[b"\"\xe4,\xf6\",\xfc"], Quotes::Strings), [r#"\"\xe4,\xf6\""#, r"\xfc"]);
    }

    #[test]
    fn an_open_quote_reaches_to_the_end_of_its_line_only() {
        let lines: [&[u8]; 3] = [br#"a, "b, c"#, br#""d\"#, b"e"];
        assert_eq!(list(&lines, Quotes::Strings), ["a", r#"\"b, c"#, r#"\"d\\"#, "e"]);
    }

    #[test]
    fn parameters_have_names_and_values() {
        let read = |element: &'static str| -> Vec<Option<(&str, Option<String>)>> {
            let text = |value: Cow<'_, [u8]>| value.escape_ascii().to_string();
            let read = parameters(element.as_bytes());
            read.map(|read| read.map(|it| (it.name, it.value.map(text)))).collect()
        };
        let some = |name, value: &str| Some((name, Some(value.to_owned())));
        assert_eq!(read("text/html ; q=0.5;"), [Some(("text/html", None)), some("q", "0.5")]);
        assert_eq!(read(r#"a = "b;c";; D="""#), [some("a", "b;c"), some("D", "")]);
        assert_eq!(
            read(r#"a="\"\b\\";for=[::1]:80"#),
            [some("a", r#"\"b\\"#), some("for", "[::1]:80")]
        );
        for malformed in [
            r#"a="b"#,
            r#"a="b"c"#,
            r#"a="b\""#,
            r#"a=b"c"#,
            "a=",
            "=b",
            "a b=c",
            "a=b c",
            r#""a""#,
        ] {
            assert_eq!(read(malformed), [None], "{malformed}");
        }
    }

    #[test]
    fn a_weight_is_a_decimal_number_up_to_1() {
        let weight_of = |element: &str| weight(parameters(element.as_bytes()).flatten());
        for (element, expected) in [
            ("gzip", Some(1.0)),
            ("gzip;q=0.5", Some(0.5)),
            ("gzip ; Q=\"0.25\"", Some(0.25)),
            ("text/html;level=1;q=0", Some(0.0)),
            ("gzip;q=7", Some(1.0)),
            ("gzip;q", None),
            ("gzip;q=x", None),
            ("gzip;q=-1", None),
            ("gzip;q=inf", None),
            ("gzip;q=NaN", None),
            ("gzip;q=1e-1", None),
            ("gzip;q=.", None),
        ] {
            assert_eq!(weight_of(element), expected, "{element}");
        }
    }

    #[test]
    fn tokens_are_found_in_every_line_and_only_whole() {
        let mut headers = HeaderMap::new();
        headers.append(header::CONNECTION, HeaderValue::from_static("keep-alive , UPGRADE"));
        headers.append(header::CONNECTION, HeaderValue::from_static("close"));
        for listed in ["keep-alive", "upgrade", "close"] {
            assert!(has_token(&headers, &header::CONNECTION, listed), "{listed}");
        }
        assert!(!has_token(&headers, &header::CONNECTION, "keep"));
        assert!(!has_token(&headers, &header::UPGRADE, "upgrade"));
    }
}
