//! An issuer of tokens for tests: keys for every algorithm, tokens with any header and claims, and a server with its key set
//! that can misbehave.

mod key;
mod server;

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use anyhow::Result;
use serde_json::{Value, json};

pub use key::TestKey;
pub use server::{Answers, KeyServer};

/// An issuer with a current key, whose key set is served on loopback.
pub struct TestIssuer {
    server: KeyServer,
    keys: Mutex<Vec<Arc<TestKey>>>,
}

impl TestIssuer {
    /// Name of the issuer, the claim `iss`.
    pub const ISSUER: &str = "https://issuer.example/";

    /// Audience of its tokens, the claim `aud`.
    pub const AUDIENCE: &str = "https://messages.example";

    /// Starts an issuer with a key for ES256.
    pub async fn start() -> Result<Self> {
        Self::with_key(TestKey::new("ES256").with_id("key-1")).await
    }

    /// Starts an issuer that signs with this key.
    pub async fn with_key(key: TestKey) -> Result<Self> {
        let issuer = Self { server: KeyServer::start().await?, keys: Mutex::default() };
        issuer.publish(key);
        Ok(issuer)
    }

    /// Publishes another key beside those before, and signs with it from now on.
    pub fn publish(&self, key: TestKey) {
        self.change(|keys| keys.push(Arc::new(key)));
    }

    /// Replaces all keys by another one.
    pub fn rotate(&self, key: TestKey) {
        self.change(|keys| *keys = vec![Arc::new(key)]);
    }

    /// Signs with another key before it is published.
    pub fn sign_before_publishing(&self, key: TestKey) {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::new(key));
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<TestKey>>)) {
        change(&mut self.keys.lock().unwrap_or_else(PoisonError::into_inner));
        self.server.serve(self.jwks().to_string());
    }

    /// Returns the key that signs.
    pub fn key(&self) -> Arc<TestKey> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.last().cloned().unwrap_or_else(|| unreachable!("an issuer has a key"))
    }

    /// Returns the key set (RFC 7517).
    pub fn jwks(&self) -> Value {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        json!({ "keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>() })
    }

    /// Writes the key set to a file, as Kubernetes does: another file takes its place.
    pub fn write_jwks(&self, path: &Path) -> Result<()> {
        let new = path.with_extension("new");
        fs::write(&new, self.jwks().to_string())?;
        Ok(fs::rename(new, path)?)
    }

    /// Returns the server of the key set.
    pub fn server(&self) -> &KeyServer {
        &self.server
    }

    /// Returns the settings of a service that trusts this issuer: variables and values.
    pub fn settings(&self) -> [(&'static str, String); 4] {
        [
            ("AUTH", "jwt".to_owned()),
            ("AUTH_ISSUER", Self::ISSUER.to_owned()),
            ("AUTH_AUDIENCE", Self::AUDIENCE.to_owned()),
            ("AUTH_JWKS_URL", self.server.url().to_owned()),
        ]
    }

    /// Returns the claims of a token of a user, valid for 10 minutes.
    #[must_use]
    pub fn claims(user: &str) -> Value {
        json!({ "iss": Self::ISSUER, "aud": Self::AUDIENCE, "sub": user, "exp": Self::now() + 600 })
    }

    /// Signs a token of a user.
    pub fn token(&self, user: &str) -> String {
        self.key().sign(&Self::claims(user))
    }

    /// Signs a token of a user that expires after so many seconds, or has expired so many seconds ago.
    pub fn token_for(&self, user: &str, seconds: i64) -> String {
        let mut claims = Self::claims(user);
        claims["exp"] = Self::now().saturating_add_signed(seconds).into();
        self.key().sign(&claims)
    }

    /// Signs a token with these scopes, separated by spaces.
    pub fn token_with_scope(&self, subject: &str, scope: &str) -> String {
        let mut claims = Self::claims(subject);
        claims["scope"] = scope.into();
        self.key().sign(&claims)
    }

    /// Returns the present time in seconds since 1970, as tokens have it.
    #[must_use]
    pub fn now() -> u64 {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since_1970.map_or(0, |since_1970| since_1970.as_secs())
    }
}
