//! The `Idempotency-Key` header, which makes a `POST` safe to repeat.

use axum::http::{HeaderMap, HeaderName};
use contracts::{FieldError, MessageId, UserId};

/// The request header.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The response header of a repeated `POST`.
pub(crate) const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Maximum characters of a key.
pub(crate) const MAX_KEY_CHARACTERS: usize = 255;

/// A client's key for one write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Reads the header: 1–255 visible ASCII characters, once.
    pub(crate) fn read(headers: &HeaderMap) -> Result<Option<Self>, FieldError> {
        let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        let bytes = value.as_bytes();
        let visible = bytes.iter().all(u8::is_ascii_graphic);
        let fits = (1..=MAX_KEY_CHARACTERS).contains(&bytes.len());
        if !visible || !fits || values.next().is_some() {
            let msg = "Value should be 1 to 255 visible ASCII characters, given once";
            return Err(FieldError::new("header", "Idempotency-Key", "idempotency_key", msg));
        }
        Ok(Some(Self(String::from_utf8_lossy(bytes).into_owned())))
    }

    /// Returns the id of the message that this sender creates with this key, on any gateway.
    pub(crate) fn message_id(&self, sender: &UserId) -> MessageId {
        MessageId::from_idempotency_key(sender.as_str(), &self.0)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn read(value: &[u8]) -> Result<Option<IdempotencyKey>, FieldError> {
        let value = HeaderValue::from_bytes(value).unwrap();
        IdempotencyKey::read(&HeaderMap::from_iter([(IDEMPOTENCY_KEY, value)]))
    }

    #[test]
    fn a_key_is_visible_ascii_of_a_bounded_length() {
        assert_eq!(read(b"k-1").unwrap(), Some(IdempotencyKey("k-1".to_owned())));
        assert_eq!(IdempotencyKey::read(&HeaderMap::new()).unwrap(), None);
        for bad in [&b""[..], b"a b", "é".as_bytes(), &[b'x'; 256]] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        assert!(read(&[b'x'; 255]).is_ok());
    }
}
