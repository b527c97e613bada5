//! Sources of keys, and what happens when they change or cannot be read.

use std::{fs, time::Duration};

use crate::{INVALID, authenticator, config, start};
use auth::{Authenticator, Denied};
use contracts::ProblemKind;
use serde_json::json;
use testkit::{Answers, TestIssuer, TestKey, eventually};
use tokio::task::{JoinSet, LocalSet};

const SOON: Duration = Duration::from_secs(10);

fn is_unavailable(result: &Result<auth::Identity, Denied>) -> bool {
    let denied = result.as_ref().err().filter(|it| it.kind() == ProblemKind::KeysUnavailable);
    denied.and_then(Denied::retry_after).is_some_and(|after| !after.is_zero())
}

/// Returns a key that the issuer does not publish.
fn unknown_key() -> TestKey {
    TestKey::new("ES256").with_id("unknown")
}

#[tokio::test]
async fn an_issuer_that_misbehaves_leaves_the_keys_as_they_are() {
    for answers in [
        Answers::Slow,
        Answers::Huge,
        Answers::Empty,
        Answers::Malformed,
        Answers::Gone,
        Answers::Redirecting,
    ] {
        let issuer = TestIssuer::start().await.unwrap();
        let authenticator = authenticator(&issuer, &[]).await;
        let (known, unknown) =
            (issuer.token("alice"), unknown_key().sign(&TestIssuer::claims("eve")));
        issuer.server().answer(answers);
        let refused = authenticator.verify(&unknown).await;
        assert!(
            is_unavailable(&refused),
            "whether it has the key is not known: {answers:?} {refused:?}"
        );
        assert!(authenticator.verify(&known).await.is_ok(), "{answers:?}");
        assert!(*authenticator.keys().borrow());
    }
}

#[tokio::test]
async fn without_any_keys_tokens_are_neither_valid_nor_invalid() {
    let here = LocalSet::new();
    let mut issuers = JoinSet::new();
    for answers in [
        Answers::Held,
        Answers::Slow,
        Answers::Huge,
        Answers::Empty,
        Answers::Malformed,
        Answers::Gone,
        Answers::Redirecting,
    ] {
        let waiting = async move {
            let issuer = TestIssuer::start().await.unwrap();
            issuer.server().answer(answers);
            let authenticator = start(&config(&issuer, &[]));
            // The second time it is asked, its first answer was of no use.
            eventually("it is asked again", SOON, async || issuer.server().fetches() > 1).await;
            let token = issuer.token("alice");
            assert!(is_unavailable(&authenticator.verify(&token).await), "{answers:?}");
            assert!(!*authenticator.keys().borrow(), "{answers:?}");
            issuer.server().answer(Answers::Good);
            eventually("it has keys", SOON, async || authenticator.verify(&token).await.is_ok())
                .await;
            assert!(*authenticator.keys().borrow());
        };
        issuers.spawn_local_on(waiting, &here);
    }
    here.run_until(issuers.join_all()).await;
}

#[tokio::test]
async fn a_key_that_is_not_known_makes_one_fetch_however_many_tokens_name_one() {
    let issuer = TestIssuer::start().await.unwrap();
    let authenticator = authenticator(&issuer, &[]).await;
    let mut flood = JoinSet::new();
    for n in 0..200 {
        let authenticator = authenticator.clone();
        let key = TestKey::new("EdDSA").with_id(&format!("unknown-{n}"));
        flood.spawn(
            async move { authenticator.verify(&key.sign(&TestIssuer::claims("eve"))).await },
        );
    }
    let results = flood.join_all().await;
    let certain = results.iter().filter(|result| **result == INVALID).count();
    assert_eq!(certain, 1, "who has asked the issuer");
    assert_eq!(results.iter().filter(|result| is_unavailable(result)).count(), 199);
    assert_eq!(issuer.server().fetches(), 2, "the first one was at the start");
    assert!(authenticator.verify(&issuer.token("alice")).await.is_ok());
}

#[tokio::test]
async fn a_token_that_no_key_could_make_valid_is_refused_for_good_and_fetches_nothing() {
    let issuer = TestIssuer::start().await.unwrap();
    let authenticator = authenticator(&issuer, &[]).await;
    for (claim, value) in [
        ("iss", json!("https://other.example")),
        ("aud", json!("other")),
        ("exp", json!(TestIssuer::now() - 60)),
        ("nbf", json!(TestIssuer::now() + 600)),
        ("exp", json!("never")),
    ] {
        let mut claims = TestIssuer::claims("alice");
        claims[claim] = value;
        let refused = authenticator.verify(&unknown_key().sign(&claims)).await;
        assert_eq!(
            refused, INVALID,
            "it counts as an attempt, since nobody knows who made it: {claims}"
        );
    }
    assert_eq!(issuer.server().fetches(), 1);
    // Whom it is about is nothing that an unverified token can tell.
    let mut claims = TestIssuer::claims("alice");
    claims["sub"] = json!(null);
    assert_ne!(authenticator.verify(&unknown_key().sign(&claims)).await, Err(Denied::NoUser));
    assert_eq!(issuer.server().fetches(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_under_load_refuses_no_valid_token() {
    let issuer = TestIssuer::start().await.unwrap();
    let authenticator = authenticator(&issuer, &[]).await;
    let verify_many = async |authenticator: Authenticator, tokens: Vec<String>| {
        for token in tokens {
            authenticator.verify(&token).await.unwrap();
        }
    };
    let mut clients = JoinSet::new();
    let before: Vec<String> = (0..50).map(|n| issuer.token(&format!("user-{n}"))).collect();
    issuer.publish(TestKey::new("RS256").with_id("key-2"));
    let after: Vec<String> = (0..50).map(|n| issuer.token(&format!("user-{n}"))).collect();
    for client in 0..16 {
        // Some begin with the new key, some with the old one.
        let mut tokens = [before.clone(), after.clone()];
        tokens.rotate_left(client % 2);
        clients.spawn(verify_many(authenticator.clone(), tokens.concat()));
    }
    clients.join_all().await;
    assert_eq!(issuer.server().fetches(), 2);
}

#[tokio::test]
async fn a_key_that_is_withdrawn_verifies_nothing_any_more() {
    let issuer = TestIssuer::start().await.unwrap();
    let authenticator = authenticator(&issuer, &[]).await;
    let old = issuer.token("alice");
    assert!(authenticator.verify(&old).await.is_ok());
    issuer.rotate(TestKey::new("ES256").with_id("key-2"));
    assert!(authenticator.verify(&issuer.token("alice")).await.is_ok());
    assert!(is_unavailable(&authenticator.verify(&old).await), "though it is remembered");
}

#[tokio::test]
async fn keys_are_found_with_and_without_ids() {
    let issuer = TestIssuer::with_key(TestKey::new("ES256")).await.unwrap();
    let without_ids = authenticator(&issuer, &[]).await;
    assert!(without_ids.verify(&issuer.token("alice")).await.is_ok());
    let key = issuer.key();
    let payload = TestIssuer::claims("alice").to_string();
    let named = key.sign_with(&json!({ "alg": "ES256", "kid": "whatever" }), &payload);
    assert!(without_ids.verify(&named).await.is_ok(), "the key has no id that could differ");
    // Two keys with one id, and a token that names none.
    for algorithm in ["EdDSA", "RS256", "ES256"] {
        issuer.publish(TestKey::new(algorithm).with_id("same"));
    }
    let with_ids = authenticator(&issuer, &[]).await;
    assert!(with_ids.verify(&issuer.token("alice")).await.is_ok());
    let nameless = issuer.key().sign_with(&json!({ "alg": "ES256" }), &payload);
    assert!(with_ids.verify(&nameless).await.is_ok());
    let forged = TestKey::new("ES256").sign(&TestIssuer::claims("alice"));
    assert_eq!(with_ids.verify(&forged).await, INVALID, "without an id, no key can be missing");
    assert_eq!(issuer.server().fetches(), 2);
}

#[tokio::test]
async fn a_file_is_read_again_when_another_takes_its_place() {
    let issuer = TestIssuer::start().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("jwks.json");
    issuer.write_jwks(&file).unwrap();
    let path = file.to_str().unwrap();
    let authenticator =
        authenticator(&issuer, &[("AUTH_JWKS_URL", ""), ("AUTH_JWKS_FILE", path)]).await;
    let old = issuer.token("alice");
    assert!(authenticator.verify(&old).await.is_ok());
    issuer.publish(TestKey::new("EdDSA").with_id("key-2"));
    issuer.write_jwks(&file).unwrap();
    assert!(authenticator.verify(&issuer.token("alice")).await.is_ok(), "at once");
    issuer.rotate(TestKey::new("EdDSA").with_id("key-3"));
    issuer.write_jwks(&file).unwrap();
    let new = issuer.token("alice");
    eventually("it has the new keys", SOON, async || authenticator.verify(&new).await.is_ok())
        .await;
    assert!(authenticator.verify(&old).await.is_err());
    fs::write(&file, "{").unwrap();
    assert!(authenticator.verify(&new).await.is_ok());
    assert_eq!(issuer.server().fetches(), 0);
}

#[tokio::test]
async fn a_secret_is_replaced_while_tokens_of_the_one_before_stay_valid() {
    let issuer = TestIssuer::start().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, secret: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, secret).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let [old, new, other] = [[b'o'; 32], [b'n'; 32], [b'x'; 32]];
    let (new_file, old_file) = (write("new", &new), write("old", &old));
    let settings = [
        ("AUTH_JWKS_URL", ""),
        ("AUTH_HS256_SECRET_FILE", new_file.as_str()),
        ("AUTH_HS256_PREVIOUS_SECRET_FILE", old_file.as_str()),
    ];
    let authenticator = authenticator(&issuer, &settings).await;
    let token = |secret: &[u8]| {
        TestKey::of_secret(secret).with_id("any").sign(&TestIssuer::claims("alice"))
    };
    assert!(authenticator.verify(&token(&new)).await.is_ok());
    assert!(authenticator.verify(&token(&old)).await.is_ok());
    assert_eq!(authenticator.verify(&token(&other)).await, INVALID, "no key can be missing");
    assert_eq!(authenticator.verify(&issuer.token("alice")).await, INVALID, "no public keys");
}
