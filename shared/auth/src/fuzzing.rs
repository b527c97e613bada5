//! What holds for the parsers here, whatever the input. Fuzz targets and property tests call these functions, which panic if
//! it does not hold.

use std::time::{Duration, SystemTime};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use jsonwebtoken::Algorithm;
use ring::hmac;
use serde_json::Value;

use crate::{Secret, bearer, claims::Rules, keys::KeySet, provider, refusal::Refusal, token};

const SECRET: &[u8] = b"no secret, but the key of a fuzz target";

/// A token in a header is one text without anything that would end a header or an element of a list, and is read the same
/// when it is sent again.
pub fn bearer(data: &[u8]) {
    let headers = lines(&header::AUTHORIZATION, data);
    if let Ok(Some(token)) = bearer::token(&headers) {
        check_text(token);
        let again = lines(&header::AUTHORIZATION, format!("bearer {token}").as_bytes());
        assert_eq!(bearer::token(&again), Ok(Some(token)));
    }
    let name = header::SEC_WEBSOCKET_PROTOCOL;
    if let Ok(Some(token)) = bearer::of_subprotocols(&lines(&name, data)) {
        check_text(&token);
        let offer =
            format!("base64url.bearer.authorization.messages.{}", URL_SAFE_NO_PAD.encode(&token));
        let again = lines(&name, format!("{offer}, messages.v1").as_bytes());
        assert_eq!(bearer::of_subprotocols(&again), Ok(Some(token)));
    }
}

fn lines(name: &HeaderName, data: &[u8]) -> HeaderMap {
    let lines = data.split(|byte| *byte == b'\n');
    lines.filter_map(|line| Some((name.clone(), HeaderValue::from_bytes(line).ok()?))).collect()
}

fn check_text(token: &str) {
    assert!(!token.is_empty());
    assert!(token.bytes().all(|byte| byte.is_ascii_graphic() && !b",;\"\\".contains(&byte)));
}

/// A set of keys has at least one, each for an algorithm that issuers publish keys for, and none of them verifies rubbish.
pub fn key_set(data: &[u8]) {
    provider::install();
    let allowed = [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA];
    // HS256 must not become possible by being allowed.
    let all = [&allowed[..], &[Algorithm::HS256]].concat();
    let Ok(set) = KeySet::from_jwks(data, &all, 1) else { return };
    assert!((1..=32).contains(&set.candidates(None).count()));
    for key in set.candidates(None) {
        assert!(allowed.iter().any(|algorithm| key.allows(*algorithm)));
        assert!(!key.allows(Algorithm::HS256));
    }
    for algorithm in ["RS256", "PS256", "ES256", "EdDSA", "HS256"] {
        let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{algorithm}"}}"#));
        let token = format!("{header}.e30.{}", URL_SAFE_NO_PAD.encode([1; 64]));
        assert_eq!(token::verify(&token, &set, &rules(all.clone())), Err(Refusal::Signature));
    }
}

/// A text is no token. Claims with a right signature name somebody and end, or are refused for what they say.
pub fn token(data: &[u8]) {
    provider::install();
    let Ok(set) = KeySet::of_secrets(&[Secret(SECRET.to_vec())]) else { return };
    let rules = rules(vec![Algorithm::HS256]);
    if let Ok(text) = str::from_utf8(data) {
        assert!(token::verify(text, &set, &rules).is_err(), "without the key");
    }
    let identity = match token::verify(&signed(data), &set, &rules) {
        Ok(identity) => identity,
        Err(refusal) => {
            assert!(!matches!(refusal, Refusal::Signature | Refusal::UnknownKey), "{refusal}");
            return;
        }
    };
    let claims: Value = serde_json::from_slice(data).unwrap_or_default();
    assert_eq!(claims["iss"], rules.issuer.as_str());
    assert!((1..=255).contains(&identity.principal.subject.len()));
    assert!(identity.principal.user.is_some() || !identity.principal.scopes.is_empty());
    let left = identity.expires_at.duration_since(SystemTime::now());
    assert!(
        left.is_ok_and(|left| left < Duration::from_hours(24 * 366 * 8000))
            || identity.has_expired(SystemTime::now())
    );
}

/// Signs a token with this payload.
fn signed(payload: &[u8]) -> String {
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#),
        URL_SAFE_NO_PAD.encode(payload)
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    let signature = hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn rules(algorithms: Vec<Algorithm>) -> Rules {
    Rules {
        issuer: "i".to_owned(),
        audience: "a".to_owned(),
        algorithms,
        leeway: Duration::from_secs(30),
        user_claim: "sub".to_owned(),
        scope_claim: "scope".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn credentials(text in "([Bb]earer +)?[A-Za-z0-9._~+/=, -]{0,40}(\n.*)?") {
            super::bearer(text.as_bytes());
        }

        #[test]
        fn subprotocols(
            text in "(messages[.]v1,? ?|\n|base64url[.]bearer[.]authorization[.]messages[.][A-Za-z0-9_-]{0,12},? ?){0,4}"
        ) {
            super::bearer(text.as_bytes());
        }

        #[test]
        fn key_sets(
            keys in prop::collection::vec(
                r#"\{("kty":"(RSA|EC|OKP|oct)",)?("crv":"(P-256|Ed25519)",)?("(n|x|y|k)":"[A-Za-z0-9_-]{0,43}",){0,3}("use":"(sig|enc)",)?"e":"(AQAB|AA|)"\}"#,
                0..4,
            )
        ) {
            key_set(format!(r#"{{"keys":[{}]}}"#, keys.join(",")).as_bytes());
        }

        #[test]
        fn claims(
            time in "-?[0-9]{1,20}([.][0-9]{1,5})?([eE][+-]?[0-9]{1,3})?",
            subject in r#""[^"\\]{0,70}"|-?[0-9]{1,20}([.]0)?|null|\[\]"#,
            more in r#"(,"(nbf|aud|iss|scope|exp)":("a"|\["a","messages:read-all"\]|[0-9]{1,12}))?"#,
        ) {
            super::token(format!(r#"{{"iss":"i","aud":"a","exp":{time},"sub":{subject}{more}}}"#).as_bytes());
        }
    }
}
