//! A set of keys (RFC 7517), and what each may verify.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey,
    errors::Error,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse},
};
use serde_json::Value;

use crate::Secret;

/// Maximum number of keys: a token that names none is tried with each of them.
const MAX_KEYS: usize = 32;

/// Sizes of RSA keys, in bits. Smaller ones are not safe (NIST SP 800-131A), larger ones not supported.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Bytes of each coordinate of a key on the curve P-256, and of a key on the curve Ed25519.
const CURVE_BYTES: usize = 32;

/// Keys that verify tokens.
#[derive(Debug)]
pub(crate) struct KeySet {
    keys: Vec<Key>,
    generation: u64,
    may_change: bool,
}

/// A key, and what it may verify.
#[derive(Debug)]
pub(crate) struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    decoding: DecodingKey,
}

/// Text that is no key set, or one of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidKeySet {
    #[error("the key set is not valid JSON")]
    Json(#[source] serde_json::Error),
    #[error("the key set is no JWK Set: it has no array named \"keys\"")]
    Form,
    #[error(
        "none of the {0} keys of the key set can be used: they must be public keys for signatures, with RSA (2048 to 8192 \
         bits), the curve P-256 or Ed25519, for an algorithm of AUTH_ALGORITHMS"
    )]
    NoUsableKey(usize),
}

impl KeySet {
    /// Reads a JWK Set. Keys that cannot be used are left out: others have use for them.
    pub(crate) fn from_jwks(
        json: &[u8],
        allowed: &[Algorithm],
        generation: u64,
    ) -> Result<Self, InvalidKeySet> {
        let set: Value = serde_json::from_slice(json).map_err(InvalidKeySet::Json)?;
        let listed = set.get("keys").and_then(Value::as_array).ok_or(InvalidKeySet::Form)?;
        let usable = listed.iter().filter_map(|key| Key::from_json(key, allowed));
        let keys: Vec<Key> = usable.take(MAX_KEYS).collect();
        if keys.is_empty() {
            return Err(InvalidKeySet::NoUsableKey(listed.len()));
        }
        tracing::info!(
            keys = keys.len(),
            unusable = listed.len() - keys.len(),
            "read the keys that verify tokens"
        );
        Ok(Self { keys, generation, may_change: true })
    }

    /// Makes a set of secrets, which stays as it is.
    pub(crate) fn of_secrets(secrets: &[Secret]) -> Result<Self, Error> {
        let key = |secret: &Secret| -> Result<Key, Error> {
            let decoding = DecodingKey::from_secret(&secret.0)?;
            Ok(Key { id: None, algorithms: vec![Algorithm::HS256], decoding })
        };
        let keys = secrets.iter().map(key).collect::<Result<_, _>>()?;
        Ok(Self { keys, generation: 0, may_change: false })
    }

    /// Returns the number of sets that were read before this one.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns true if the issuer may replace the keys.
    pub(crate) fn may_change(&self) -> bool {
        self.may_change
    }

    /// Returns the keys that may have signed a token that names this key, or none. An id need not be unique, and a key need
    /// not have one.
    pub(crate) fn candidates<'a>(&'a self, id: Option<&'a str>) -> impl Iterator<Item = &'a Key> {
        self.keys
            .iter()
            .filter(move |key| id.is_none() || key.id.is_none() || key.id.as_deref() == id)
    }
}

impl Key {
    fn from_json(json: &Value, allowed: &[Algorithm]) -> Option<Self> {
        let jwk: Jwk = serde::Deserialize::deserialize(json).ok()?;
        let (decoding, mut algorithms) = match &jwk.algorithm {
            AlgorithmParameters::RSA(key) => {
                let (n, e) = (unsigned(&key.n)?, unsigned(&key.e)?);
                let is_safe = RSA_BITS.contains(&bits(&n));
                let algorithms = vec![Algorithm::RS256, Algorithm::PS256];
                is_safe.then(|| (DecodingKey::from_rsa_raw_components(&n, &e), algorithms))?
            }
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
                let is_point = [&key.x, &key.y].into_iter().all(|text| is_curve_bytes(text));
                let decoding = DecodingKey::from_ec_components(&key.x, &key.y).ok()?;
                is_point.then(|| (decoding, vec![Algorithm::ES256]))?
            }
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                let decoding = DecodingKey::from_ed_components(&key.x).ok()?;
                is_curve_bytes(&key.x).then(|| (decoding, vec![Algorithm::EdDSA]))?
            }
            // Never a secret: whoever can read the set could sign with it.
            _ => return None,
        };
        let named = jwk.common.key_algorithm;
        algorithms.retain(|it| {
            allowed.contains(it) && named.is_none_or(|named| named == KeyAlgorithm::from(*it))
        });
        let is_for_signatures =
            jwk.common.public_key_use.is_none_or(|it| it == PublicKeyUse::Signature);
        let may_verify =
            jwk.common.key_operations.is_none_or(|all| all.contains(&KeyOperations::Verify));
        (!algorithms.is_empty() && is_for_signatures && may_verify).then_some(Self {
            id: jwk.common.key_id,
            algorithms,
            decoding,
        })
    }

    /// Returns true if the key has an id.
    pub(crate) fn has_id(&self) -> bool {
        self.id.is_some()
    }

    /// Returns true if signatures by this algorithm may be verified with the key.
    pub(crate) fn allows(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    pub(crate) fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }
}

/// Reads an unsigned integer. Leading zeros are against RFC 7518 (section 2), but some issuers have them.
fn unsigned(text: &str) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).filter(|bytes| !bytes.is_empty()).map(<[u8]>::to_vec)
}

fn bits(number: &[u8]) -> usize {
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}

fn is_curve_bytes(text: &str) -> bool {
    URL_SAFE_NO_PAD.decode(text).is_ok_and(|bytes| bytes.len() == CURVE_BYTES)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use testkit::TestKey;

    use super::*;

    const ALLOWED: [Algorithm; 5] =
        [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA, Algorithm::HS256];

    /// Returns the number of keys of a set that can be used.
    fn usable(keys: &[Value]) -> Result<usize, InvalidKeySet> {
        let set = KeySet::from_jwks(json!({ "keys": keys }).to_string().as_bytes(), &ALLOWED, 1);
        set.map(|set| set.keys.len())
    }

    fn changed(key: &Value, name: &str, value: Value) -> Value {
        let mut key = key.clone();
        key[name] = value;
        key
    }

    #[test]
    fn keys_of_no_use_are_left_out_and_a_set_of_them_is_refused() {
        let genuine = TestKey::new("ES256").jwk();
        let rsa = TestKey::new("RS256").jwk();
        let number = |bytes: usize| URL_SAFE_NO_PAD.encode(vec![0xff; bytes]);
        let useless = [
            json!("key"),
            json!({}),
            json!({ "kty": "oct", "k": number(32), "alg": "HS256" }),
            json!({ "kty": "EC", "crv": "secp256k1", "x": genuine["x"], "y": genuine["y"] }),
            changed(&rsa, "n", number(255).into()),
            changed(&rsa, "n", number(1025).into()),
            changed(&rsa, "n", "".into()),
            changed(&rsa, "e", "AAAA".into()),
            changed(&genuine, "use", "enc".into()),
            changed(&genuine, "key_ops", json!(["sign"])),
            changed(&genuine, "alg", "ES384".into()),
            changed(&genuine, "x", "AAAA".into()),
            changed(&genuine, "kid", 7.into()),
        ];
        for key in &useless {
            let refused = usable(std::slice::from_ref(key));
            assert!(matches!(refused, Err(InvalidKeySet::NoUsableKey(1))), "{key}: {refused:?}");
        }
        for key in [
            changed(&genuine, "use", "sig".into()),
            changed(&genuine, "key_ops", json!(["verify"])),
            changed(&rsa, "n", number(256).into()),
            changed(&rsa, "n", format!("AAAA{}", number(256)).into()),
            changed(&rsa, "alg", Value::Null),
            TestKey::new("EdDSA").jwk(),
        ] {
            let all = [&useless[..], std::slice::from_ref(&key)].concat();
            assert_eq!(usable(&all).unwrap(), 1, "{key}");
        }
    }

    #[test]
    fn a_set_is_json_with_keys_and_a_limited_number_counts() {
        let read = |text: &str| KeySet::from_jwks(text.as_bytes(), &ALLOWED, 1);
        assert!(matches!(read("<html>"), Err(InvalidKeySet::Json(_))));
        for text in ["{}", "[]", r#"{"keys":{}}"#, "null"] {
            assert!(matches!(read(text), Err(InvalidKeySet::Form)), "{text}");
        }
        assert!(matches!(read(r#"{"keys":[]}"#), Err(InvalidKeySet::NoUsableKey(0))));
        let many = vec![TestKey::new("ES256").jwk(); 40];
        assert_eq!(usable(&many).unwrap(), MAX_KEYS);
    }
}
