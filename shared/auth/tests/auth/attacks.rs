//! Tokens that must be refused, with real keys for every algorithm.

use std::time::Duration;

use crate::{EXPIRED, INVALID, authenticator};
use auth::{Authenticator, Denied};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use testkit::{TestIssuer, TestKey, eventually};

/// An issuer with a key for one algorithm, and who trusts it.
async fn trusting(algorithm: &str) -> (TestIssuer, Authenticator) {
    let key = TestKey::new(algorithm).with_id("key-1");
    let issuer = TestIssuer::with_key(key).await.unwrap();
    let authenticator = authenticator(&issuer, &[]).await;
    (issuer, authenticator)
}

/// Returns the claims of Alice's tokens with some changes; `null` removes a claim.
fn claims(changes: &Value) -> Value {
    let mut claims = TestIssuer::claims("alice");
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    claims
}

fn in_seconds(seconds: i64) -> u64 {
    TestIssuer::now().saturating_add_signed(seconds)
}

#[tokio::test]
async fn a_genuine_token_of_every_algorithm_is_verified() {
    for algorithm in TestKey::PUBLIC_KEY_ALGORITHMS {
        let (issuer, authenticator) = trusting(algorithm).await;
        for claims in [
            claims(&json!({})),
            claims(&json!({ "aud": ["other", TestIssuer::AUDIENCE] })),
            claims(&json!({ "exp": format!("{}.5", in_seconds(600)).parse::<f64>().unwrap() })),
            claims(&json!({ "nbf": in_seconds(-1), "iat": "whatever" })),
            claims(&json!({ "nbf": in_seconds(20), "exp": in_seconds(-20) })),
        ] {
            for _ in ["verified", "remembered"] {
                let identity = authenticator.verify(&issuer.key().sign(&claims)).await;
                let identity =
                    identity.unwrap_or_else(|denied| panic!("{algorithm} {claims}: {denied}"));
                assert_eq!(identity.principal.user.as_ref().unwrap().as_str(), "alice");
            }
        }
    }
}

#[tokio::test]
async fn wrong_claims_are_refused_with_every_algorithm() {
    for algorithm in TestKey::PUBLIC_KEY_ALGORITHMS {
        let (issuer, authenticator) = trusting(algorithm).await;
        for changes in [
            json!({ "iss": "https://another.example/" }),
            json!({ "iss": "https://issuer.example" }),
            json!({ "iss": [TestIssuer::ISSUER] }),
            json!({ "iss": null }),
            json!({ "aud": "another" }),
            json!({ "aud": ["another"] }),
            json!({ "aud": [] }),
            json!({ "aud": [TestIssuer::AUDIENCE, 7] }),
            json!({ "aud": { "x": TestIssuer::AUDIENCE } }),
            json!({ "aud": null }),
            json!({ "exp": null }),
            json!({ "exp": in_seconds(600).to_string() }),
            json!({ "exp": -1 }),
            json!({ "exp": 1e300 }),
            json!({ "exp": u64::MAX }),
            json!({ "exp": [in_seconds(600)] }),
            json!({ "nbf": in_seconds(60) }),
            json!({ "nbf": in_seconds(-60).to_string() }),
            json!({ "nbf": u64::MAX }),
            // Expired, too: then it was never valid here.
            json!({ "aud": "another", "exp": in_seconds(-60) }),
        ] {
            let token = issuer.key().sign(&claims(&changes));
            assert_eq!(authenticator.verify(&token).await, INVALID, "{algorithm} {changes}");
        }
        let token = issuer.token_for("alice", -60);
        assert_eq!(authenticator.verify(&token).await, EXPIRED, "{algorithm}");
    }
}

#[tokio::test]
async fn payloads_that_are_hard_to_read_are_refused_without_harm() {
    let (issuer, authenticator) = trusting("ES256").await;
    let key = issuer.key();
    let with_exp = |exp: &str| {
        let rest =
            r#""iss":"https://issuer.example/","aud":"https://messages.example","sub":"alice""#;
        key.sign_with(&key.header(), &format!("{{{rest},\"exp\":{exp}}}"))
    };
    assert!(authenticator.verify(&with_exp(&in_seconds(600).to_string())).await.is_ok());
    let digits = "9".repeat(4000);
    let million = "9".repeat(1_000_000);
    let deep = format!("{}{}", "[".repeat(2000), "]".repeat(2000));
    for exp in [&digits, &million, &deep, "1e400", "1e-400", "-0", "NaN", "0x7fffffff", "\u{0}", ""]
    {
        let denied = authenticator.verify(&with_exp(exp)).await.unwrap_err();
        assert!(matches!(denied, Denied::Invalid { .. }), "{}", exp.len());
    }
    for payload in ["", "null", "[]", "\"alice\"", "{", "{\"exp\":1}{}"] {
        assert_eq!(authenticator.verify(&key.sign_with(&key.header(), payload)).await, INVALID);
    }
}

#[tokio::test]
async fn signatures_that_are_not_the_issuers_are_refused_with_every_algorithm() {
    for algorithm in TestKey::PUBLIC_KEY_ALGORITHMS {
        let (issuer, authenticator) = trusting(algorithm).await;
        let key = issuer.key();
        let genuine = issuer.token("alice");
        let (message, signature) = genuine.rsplit_once('.').unwrap();
        let (header, payload) = message.split_once('.').unwrap();
        let bob = URL_SAFE_NO_PAD.encode(TestIssuer::claims("bob").to_string());
        let none =
            |alg: &str| URL_SAFE_NO_PAD.encode(json!({ "alg": alg, "kid": "key-1" }).to_string());
        let another = TestKey::another(algorithm).with_id("key-1");
        let zeros = URL_SAFE_NO_PAD.encode([0; 64]);
        let mut forged = vec![
            format!("{}.{payload}.", none("none")),
            format!("{}.{payload}.{signature}", none("none")),
            format!("{}.{payload}.", none("None")),
            format!("{}.{payload}", none("none")),
            format!("{message}."),
            message.to_owned(),
            format!("{header}.{bob}.{signature}"),
            format!("{message}.{zeros}"),
            format!("{message}.{}", &signature[..signature.len() - 4]),
            format!("{genuine}."),
            format!(".{genuine}"),
            format!("{genuine}AAAA"),
            another.sign(&TestIssuer::claims("alice")),
        ];
        // The public key as a secret, in whatever form.
        let jwk = key.jwk();
        for secret in [jwk.to_string(), jwk["n"].to_string(), jwk["x"].to_string()] {
            forged.push(
                TestKey::of_secret(secret.as_bytes())
                    .with_id("key-1")
                    .sign(&TestIssuer::claims("alice")),
            );
        }
        for part in ["n", "x"].into_iter().filter_map(|name| jwk[name].as_str()) {
            let secret = URL_SAFE_NO_PAD.decode(part).unwrap();
            forged.push(
                TestKey::of_secret(&secret).with_id("key-1").sign(&TestIssuer::claims("alice")),
            );
        }
        // The name of another algorithm over the same signature.
        for alg in ["HS256", "RS256", "PS256", "ES256", "EdDSA", "RS512", "ES384", "es256"] {
            if alg != algorithm {
                let header = json!({ "alg": alg, "kid": "key-1" });
                forged.push(key.sign_with(&header, &TestIssuer::claims("alice").to_string()));
            }
        }
        for token in forged {
            assert_eq!(authenticator.verify(&token).await, INVALID, "{algorithm} {token}");
        }
        assert!(authenticator.verify(&genuine).await.is_ok());
        assert_eq!(issuer.server().fetches(), 1, "none of them was worth asking the issuer");
    }
}

#[tokio::test]
async fn keys_that_a_token_brings_along_are_not_used() {
    let (issuer, authenticator) = trusting("ES256").await;
    let attacker = TestIssuer::with_key(TestKey::new("ES256").with_id("key-1")).await.unwrap();
    let key = attacker.key();
    let jku = attacker.server().url();
    for parameter in [json!({ "jwk": key.jwk() }), json!({ "jku": jku }), json!({ "x5u": jku })] {
        let mut header = key.header();
        header.as_object_mut().unwrap().extend(parameter.as_object().unwrap().clone());
        let payload = TestIssuer::claims("alice").to_string();
        assert_eq!(authenticator.verify(&key.sign_with(&header, &payload)).await, INVALID);
        // Beside a genuine signature they do no harm.
        header["kid"] = "key-1".into();
        assert!(authenticator.verify(&issuer.key().sign_with(&header, &payload)).await.is_ok());
    }
    assert_eq!(attacker.server().fetches(), 0);
}

#[tokio::test]
async fn a_header_that_must_be_understood_is_refused() {
    let (issuer, authenticator) = trusting("ES256").await;
    for parameters in [
        json!({ "crit": ["b64"], "b64": true }),
        json!({ "crit": ["b64"], "b64": false }),
        json!({ "crit": ["exp"], "exp": 1 }),
        json!({ "crit": [] }),
    ] {
        let mut header = issuer.key().header();
        header.as_object_mut().unwrap().extend(parameters.as_object().unwrap().clone());
        let payload = TestIssuer::claims("alice").to_string();
        let token = issuer.key().sign_with(&header, &payload);
        assert_eq!(authenticator.verify(&token).await, INVALID, "{parameters}");
    }
}

#[tokio::test]
async fn a_key_verifies_only_what_its_set_and_the_settings_allow() {
    // The key set names RS256, and the same key could verify PS256.
    let (issuer, authenticator) = trusting("RS256").await;
    let other = TestKey::new("PS256").with_id("key-1");
    assert_eq!(authenticator.verify(&other.sign(&TestIssuer::claims("alice"))).await, INVALID);
    let only_es256 = crate::start(&crate::config(&issuer, &[("AUTH_ALGORITHMS", "ES256")]));
    let denied = only_es256.verify(&issuer.token("alice")).await;
    assert!(matches!(denied, Err(Denied::KeysUnavailable { .. })), "no key is of use: {denied:?}");
}

#[tokio::test]
async fn a_token_has_8_kib_at_most() {
    let (issuer, authenticator) = trusting("ES256").await;
    let token = |bytes: usize| issuer.key().sign(&claims(&json!({ "x": "x".repeat(bytes) })));
    let length = token(0).len();
    // Three bytes are four in base64.
    let filler = |length_of_token: usize| (length_of_token - length) / 4 * 3;
    let (longest, longer) = (token(filler(8192)), token(filler(8192) + 6));
    assert!(longest.len() <= 8192 && longer.len() > 8192);
    assert!(authenticator.verify(&longest).await.is_ok());
    assert_eq!(authenticator.verify(&longer).await, INVALID);
}

#[tokio::test]
async fn a_token_that_is_remembered_expires_all_the_same() {
    let issuer = TestIssuer::start().await.unwrap();
    let authenticator = authenticator(&issuer, &[("AUTH_LEEWAY_S", "0")]).await;
    let token = issuer.token_for("alice", 2);
    assert!(authenticator.verify(&token).await.is_ok());
    eventually("it has expired", Duration::from_secs(10), async || {
        authenticator.verify(&token).await == EXPIRED
    })
    .await;
}

#[tokio::test]
async fn a_logout_token_is_no_access_token() {
    let (issuer, authenticator) = trusting("ES256").await;
    let verify = async |typ: &str| {
        let header = json!({ "alg": "ES256", "kid": "key-1", "typ": typ });
        let token = issuer.key().sign_with(&header, &claims(&json!({})).to_string());
        authenticator.verify(&token).await
    };
    for typ in ["logout+jwt", "Logout+JWT", "application/logout+jwt"] {
        assert_eq!(verify(typ).await, INVALID, "{typ}");
    }
    for typ in ["JWT", "at+jwt", "application/at+jwt"] {
        assert!(verify(typ).await.is_ok(), "{typ}");
    }
}
