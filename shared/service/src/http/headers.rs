//! Headers that are lists of tokens, such as `Connection` and `Upgrade` (RFC 9110, section 5.6.1).

use ::http::{HeaderMap, HeaderName};

/// Returns true if `name`, in any of its lines, lists `token`. Case does not matter.
#[must_use]
pub fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers.get_all(name).iter().any(|line| {
        let mut listed = line.as_bytes().split(|byte| *byte == b',');
        listed.any(|listed| listed.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use ::http::{HeaderValue, header};

    use super::*;

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
