//! Principals of tokens, and what is said about it.

use std::sync::{Arc, Mutex};

use crate::{INVALID, authenticator};
use auth::Denied;
use contracts::{Scope, UserId};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use serde_json::{Value, json};
use testkit::{TestIssuer, TestKey};
use tracing_subscriber::fmt;

fn with(changes: &Value) -> Value {
    let mut claims = TestIssuer::claims("alice");
    claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    claims
}

#[tokio::test]
async fn a_principal_has_a_user_scopes_or_both() {
    let issuer = TestIssuer::start().await.unwrap();
    let authenticator = authenticator(&issuer, &[]).await;
    let [none, write, all] = [&[][..], &[Scope::WriteAs], &Scope::ALL];
    let long = "x".repeat(65);
    for (changes, user, subject, scopes) in [
        (json!({}), Some("alice"), "alice", none),
        (json!({ "sub": 42 }), Some("42"), "42", none),
        (json!({ "sub": 42.0 }), Some("42"), "42", none),
        (json!({ "sub": "ä b" }), Some("ä b"), "ä b", none),
        (
            json!({ "scope": "openid messages:write-as messages:other" }),
            Some("alice"),
            "alice",
            write,
        ),
        (json!({ "scope": ["messages:write-as", 7] }), Some("alice"), "alice", write),
        (
            json!({ "scope": "messages:write-as messages:read-all broadcast:read" }),
            Some("alice"),
            "alice",
            all,
        ),
        (json!({ "scope": { "messages:write-as": true } }), Some("alice"), "alice", none),
        (json!({ "sub": long, "scope": "messages:write-as" }), None, &long, write),
    ] {
        let identity = authenticator.verify(&issuer.key().sign(&with(&changes))).await;
        let principal = identity.unwrap_or_else(|denied| panic!("{changes}: {denied}")).principal;
        assert_eq!(principal.user.as_ref().map(UserId::as_str), user, "{changes}");
        assert_eq!(principal.subject, subject, "{changes}");
        assert_eq!(principal.scopes, scopes.iter().copied().collect(), "{changes}");
    }
    for changes in [
        json!({ "sub": "" }),
        json!({ "sub": long }),
        json!({ "sub": "a\nb" }),
        json!({ "sub": null }),
        json!({ "sub": ["alice"] }),
        json!({ "sub": 1.5 }),
        json!({ "sub": 1e17 }),
        json!({ "sub": long, "scope": "openid" }),
        json!({ "sub": "x".repeat(256), "scope": "messages:write-as" }),
        json!({ "sub": null, "scope": "messages:write-as" }),
    ] {
        let denied = authenticator.verify(&issuer.key().sign(&with(&changes))).await;
        assert_eq!(denied, Err(Denied::NoUser), "{changes}");
    }
}

#[tokio::test]
async fn claims_may_have_other_names() {
    let issuer = TestIssuer::start().await.unwrap();
    let settings =
        [("AUTH_USER_CLAIM", "https://messages.example/user"), ("AUTH_SCOPE_CLAIM", "scp")];
    let authenticator = authenticator(&issuer, &settings).await;
    let verify = async |changes: Value| {
        let identity = authenticator.verify(&issuer.key().sign(&with(&changes))).await;
        identity.map(|identity| identity.principal)
    };
    let principal = verify(json!({
        "https://messages.example/user": 7,
        "scp": ["messages:read-all"],
        "scope": "messages:write-as",
    }));
    let principal = principal.await.unwrap();
    assert_eq!(
        (principal.subject.as_str(), principal.scopes),
        ("7", [Scope::ReadAll].into_iter().collect())
    );
    // A service that is no user is named by its subject.
    let principal = verify(json!({ "scp": "messages:read-all" })).await.unwrap();
    assert_eq!((principal.subject.as_str(), &principal.user), ("alice", &None));
    assert_eq!(verify(json!({})).await, Err(Denied::NoUser));
}

#[tokio::test]
async fn the_api_describes_itself_as_a_protected_resource() {
    let issuer = TestIssuer::start().await.unwrap();
    let authenticator = authenticator(&issuer, &[]).await;
    let metadata: Value = serde_json::from_str(&authenticator.resource_metadata()).unwrap();
    let expected = json!({
        "resource": TestIssuer::AUDIENCE,
        "authorization_servers": [TestIssuer::ISSUER],
        "scopes_supported": ["messages:write-as", "messages:read-all", "broadcast:read"],
        "bearer_methods_supported": ["header"],
    });
    assert_eq!(metadata, expected);
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_says_why_a_token_is_refused_and_does_not_have_it() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let issuer = TestIssuer::start().await.unwrap();
    let authenticator = authenticator(&issuer, &[]).await;
    let expired = issuer.token_for("alice", -60);
    let foreign = issuer.key().sign(&with(&json!({ "aud": "another" })));
    let forged = TestKey::new("ES256").with_id("key-1").sign(&TestIssuer::claims("alice"));
    let unknown = TestKey::new("ES256").with_id("unknown-key").sign(&TestIssuer::claims("alice"));
    let valid = issuer.token("alice");
    assert!(authenticator.verify(&valid).await.is_ok());
    let mut denials = Vec::new();
    for token in [&expired, &foreign, &forged, &unknown] {
        denials.push(authenticator.verify(token).await);
    }
    assert_eq!(denials[1..], [INVALID, INVALID, INVALID]);
    let secret = "Basic c2VjcmV0";
    let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(secret))]);
    assert_eq!(authenticator.identify(&headers).await, INVALID);
    assert_eq!(authenticator.identify_handshake(&headers).await.map(drop), INVALID.map(drop));
    assert_eq!(authenticator.identify_handshake(&HeaderMap::new()).await, Ok(None));
    assert_eq!(authenticator.identify(&HeaderMap::new()).await, Err(Denied::NoToken));
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text.matches("it is no JWT").count(), 2, "{text}");
    assert!(!text.contains("c2VjcmV0"), "{text}");
    for reason in [
        "it has expired (exp)",
        "has not AUTH_AUDIENCE",
        "its signature is wrong",
        "no key with its id",
    ] {
        assert!(text.contains(reason), "{text}");
    }
    let text = format!("{text} {denials:?} {authenticator:?}");
    for token in [&valid, &expired, &foreign, &forged, &unknown] {
        for part in token.split('.') {
            assert!(!text.contains(part), "{text}");
        }
    }
}
