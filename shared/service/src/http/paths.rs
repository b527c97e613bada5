//! The one form of a path.

use ::http::Uri;

/// Decodes percent-encoded characters that need no encoding, since both forms are the same path (RFC 3986, section
/// 6.2.2.2). All others, such as `%2F`, are data and stay as they are.
pub(crate) fn normalize(uri: &mut Uri) {
    if !uri.path().contains('%') {
        return;
    }
    let mut target = decode_unreserved(uri.path());
    if let Some(query) = uri.query() {
        target.push('?');
        target.push_str(query);
    }
    let mut parts = std::mem::take(uri).into_parts();
    if let Ok(target) = target.parse() {
        parts.path_and_query = Some(target);
    }
    // The parts of a URI are valid together.
    *uri = Uri::from_parts(parts).unwrap_or_default();
}

fn decode_unreserved(path: &str) -> String {
    let mut parts = path.split('%');
    let mut decoded = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        if let Some(character) = part.get(..2).and_then(unreserved) {
            decoded.push(character);
            decoded.push_str(&part[2..]);
        } else {
            decoded.push('%');
            decoded.push_str(part);
        }
    }
    decoded
}

/// Returns the character that these two hexadecimal digits stand for, if it needs no encoding.
fn unreserved(digits: &str) -> Option<char> {
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let character = char::from(u8::from_str_radix(digits, 16).ok()?);
    (character.is_ascii_alphanumeric() || "-._~".contains(character)).then_some(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_need_no_encoding_are_decoded() {
        for (sent, normal) in [
            ("/api/%6dessages", "/api/messages"),
            ("/%61%70%69%2Dx%5f%2E%7e?q=%61", "/api-x_.~?q=%61"),
            ("http://h:1/%6D?a", "http://h:1/m?a"),
            ("/a%2Fb%2f%3F%25%41", "/a%2Fb%2f%3F%25A"),
            ("/%256d", "/%256d"),
            ("/%C3%A4", "/%C3%A4"),
            ("/%", "/%"),
            ("/%6", "/%6"),
            ("/%+4%zz%%6d", "/%+4%zz%m"),
        ] {
            let mut uri: Uri = sent.parse().unwrap();
            normalize(&mut uri);
            assert_eq!(uri, normal, "{sent}");
        }
    }
}
