//! The `Idempotency-Key` header, which makes a `POST` safe to repeat.

use axum::http::{HeaderMap, HeaderName};
use contracts::FieldError;

pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The response header of a repeated `POST`.
pub(crate) const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Maximum characters of a key.
pub(crate) const MAX_KEY_CHARACTERS: usize = 255;

/// Reads the header: 1–255 visible ASCII characters, once.
pub(crate) fn key(headers: &HeaderMap) -> Result<Option<&str>, FieldError> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let visible = value.to_str().ok().filter(|key| key.bytes().all(|byte| byte.is_ascii_graphic()));
    let fits = (1..=MAX_KEY_CHARACTERS).contains(&value.len());
    if visible.is_none() || !fits || values.next().is_some() {
        let msg = "Value should be 1 to 255 visible ASCII characters, given once";
        return Err(FieldError::new("header", "Idempotency-Key", "idempotency_key", msg));
    }
    Ok(visible)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(value: &[u8]) -> HeaderMap {
        HeaderMap::from_iter([(IDEMPOTENCY_KEY, HeaderValue::from_bytes(value).unwrap())])
    }

    #[test]
    fn a_key_is_visible_ascii_of_a_bounded_length() {
        assert_eq!(key(&headers(b"k-1")).unwrap(), Some("k-1"));
        assert_eq!(key(&HeaderMap::new()).unwrap(), None);
        for bad in [&b""[..], b"a b", "é".as_bytes(), &[b'x'; 256]] {
            assert!(key(&headers(bad)).is_err(), "{bad:?}");
        }
        assert!(key(&headers(&[b'x'; 255])).is_ok());
    }
}
