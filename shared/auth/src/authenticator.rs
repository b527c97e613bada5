//! The verification of tokens.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use contracts::Scope;
use http::HeaderMap;
use telemetry::{
    LineLimit,
    metrics::{
        CounterFamily,
        catalog::{AUTH_FAILURES, AUTH_TOKENS},
    },
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    AuthConfig, Denied, Principal, bearer,
    cache::{Cache, Digest},
    claims::Rules,
    keys::{KeySet, Keys},
    refusal::Refusal,
    token,
};

/// Maximum number of lines about refused tokens in a second.
const MAX_LINES_PER_SECOND: u32 = 10;

/// Principal of a token, and the time for which it is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Principal of the token.
    pub principal: Arc<Principal>,
    /// The token's own time of its end, of which its client knows.
    pub exp: SystemTime,
    /// Time from which the token is refused: its `exp`, and the leeway.
    pub expires_at: SystemTime,
}

impl Identity {
    pub(crate) fn has_expired(&self, now: SystemTime) -> bool {
        now >= self.expires_at
    }
}

/// Verifies tokens. Cheap to clone.
#[derive(Clone)]
pub struct Authenticator(Arc<Inner>);

struct Inner {
    keys: Keys,
    rules: Rules,
    cache: Cache,
    verified: CounterFamily,
    failures: CounterFamily,
    log: LineLimit,
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Authenticator").finish_non_exhaustive()
    }
}

impl Authenticator {
    /// Starts reading the keys, until `stopping`. Returns `None` for `AUTH=off`. Must be called in a tokio runtime.
    pub fn start(config: &AuthConfig, stopping: CancellationToken) -> anyhow::Result<Option<Self>> {
        let Some(settings) = config.settings()? else { return Ok(None) };
        let keys = Keys::start(settings.source, &settings.rules.algorithms, stopping)?;
        Ok(Some(Self(Arc::new(Inner {
            keys,
            rules: settings.rules,
            cache: Cache::default(),
            verified: AUTH_TOKENS.family("cache", &["hit", "miss"]),
            failures: AUTH_FAILURES.family("reason", &Refusal::ALL.map(Refusal::label)),
            log: LineLimit::new(MAX_LINES_PER_SECOND),
        }))))
    }

    /// Returns whether there are keys.
    #[must_use]
    pub fn keys(&self) -> watch::Receiver<bool> {
        self.0.keys.up()
    }

    /// Verifies the token of a request that is no WebSocket's.
    pub async fn identify(&self, headers: &HeaderMap) -> Result<Identity, Denied> {
        let token = self.0.read(bearer::token(headers))?;
        self.verify(token.ok_or(Denied::NoToken)?).await
    }

    /// Verifies the token of a WebSocket's handshake. Without one, it may come in the first message.
    pub async fn identify_handshake(
        &self,
        headers: &HeaderMap,
    ) -> Result<Option<Identity>, Denied> {
        match self.0.read(bearer::of_handshake(headers))? {
            Some(token) => self.verify(&token).await.map(Some),
            None => Ok(None),
        }
    }

    /// Verifies a token. Waits for the keys to be read again if the token's key is not known, but never for longer than
    /// a few seconds.
    pub async fn verify(&self, token: &str) -> Result<Identity, Denied> {
        let Some(set) = self.0.keys.current() else {
            return Err(self.0.unavailable(self.0.keys.retry_after()));
        };
        let digest = Cache::digest(token);
        if let Some(known) = self.0.cache.get(&digest, set.generation()) {
            return self.0.admit(known, "hit");
        }
        match token::verify(token, &set, &self.0.rules) {
            Err(Refusal::UnknownKey) => self.verify_with_new_keys(token, digest).await,
            verified => self.0.note(digest, &set, verified),
        }
    }

    /// Verifies a token whose key is not in the set, after the set has been read again. Even if it could not be: another
    /// request may have had it read meanwhile.
    async fn verify_with_new_keys(&self, token: &str, digest: Digest) -> Result<Identity, Denied> {
        // No key can make it valid. Otherwise tokens of a retired key or of another issuer would be told to come again.
        if let Some(refusal) = token::refuse_unverified(token, &self.0.rules) {
            self.0.log(refusal);
            return Err(Denied::Invalid { expired: false });
        }
        let read = self.0.keys.read_again().await;
        let retry_after = || read.err().unwrap_or_else(|| self.0.keys.retry_after());
        let Some(set) = self.0.keys.current() else {
            return Err(self.0.unavailable(retry_after()));
        };
        match token::verify(token, &set, &self.0.rules) {
            // The issuer may have published the key since.
            Err(Refusal::UnknownKey) if read != Ok(true) => {
                self.0.failures.count(Refusal::UnknownKey.label());
                Err(Denied::UnknownKey { retry_after: retry_after() })
            }
            verified => self.0.note(digest, &set, verified),
        }
    }

    /// Returns the metadata of this API as a protected resource (RFC 9728), as JSON.
    #[must_use]
    pub fn resource_metadata(&self) -> String {
        let scopes: Vec<&str> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
        serde_json::json!({
            "resource": self.0.rules.audience,
            "authorization_servers": [self.0.rules.issuer],
            "scopes_supported": scopes,
            "bearer_methods_supported": ["header"],
        })
        .to_string()
    }
}

impl Inner {
    /// Remembers a token if it is genuine.
    fn note(
        &self,
        digest: Digest,
        set: &KeySet,
        verified: Result<Identity, Refusal>,
    ) -> Result<Identity, Denied> {
        if matches!(verified, Ok(_) | Err(Refusal::NoUser)) {
            self.cache.insert(digest, set.generation(), verified.clone());
        }
        self.admit(verified, "miss")
    }

    /// Returns whom a token is about if it is genuine and has not expired.
    fn admit(&self, verified: Result<Identity, Refusal>, cache: &str) -> Result<Identity, Denied> {
        let identity = verified.map_err(|refusal| self.refuse(refusal))?;
        if identity.has_expired(SystemTime::now()) {
            return Err(self.refuse(Refusal::Expired));
        }
        self.verified.count(cache);
        Ok(identity)
    }

    /// Counts and logs a request whose headers have no token that can be read.
    fn read<T>(&self, read: Result<T, Denied>) -> Result<T, Denied> {
        read.inspect_err(|_| self.log(Refusal::Malformed))
    }

    fn refuse(&self, refusal: Refusal) -> Denied {
        self.log(refusal);
        refusal.denied()
    }

    /// Counts and logs a refusal.
    fn log(&self, refusal: Refusal) {
        self.failures.count(refusal.label());
        if let Some(omitted) = self.log.admit(Instant::now()) {
            tracing::info!(reason = %refusal, omitted, "a token was refused");
        }
    }

    fn unavailable(&self, retry_after: Duration) -> Denied {
        self.failures.count(Refusal::UnknownKey.label());
        Denied::KeysUnavailable { retry_after }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::{Value, json};
    use testkit::{TestIssuer, TestKey};

    use super::*;

    #[derive(Parser)]
    struct Service {
        #[command(flatten)]
        auth: AuthConfig,
    }

    #[tokio::test]
    async fn a_genuine_token_is_remembered_even_if_it_opens_nothing() {
        let secret = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&secret, [b'a'; 32]).unwrap();
        let arguments = [
            "service",
            "--auth=jwt",
            &format!("--auth-issuer={}", TestIssuer::ISSUER),
            &format!("--auth-audience={}", TestIssuer::AUDIENCE),
            &format!("--auth-hs256-secret-file={}", secret.path().display()),
        ];
        let config = Service::try_parse_from(arguments).unwrap().auth;
        let authenticator =
            Authenticator::start(&config, CancellationToken::new()).unwrap().unwrap();
        let generation = authenticator.0.keys.current().unwrap().generation();
        let key = TestKey::of_secret(&[b'a'; 32]);
        let token = |claim: &str, value: Value| {
            let mut claims = TestIssuer::claims("alice");
            claims[claim] = value;
            key.sign(&claims)
        };
        let expired = Denied::Invalid { expired: true };
        for (token, denied, is_remembered) in [
            (token("exp", json!(TestIssuer::now() - 60)), expired, true),
            (token("sub", json!(null)), Denied::NoUser, true),
            (token("aud", json!("other")), Denied::Invalid { expired: false }, false),
        ] {
            for _ in 0..2 {
                assert_eq!(authenticator.verify(&token).await, Err(denied));
                let known = authenticator.0.cache.get(&Cache::digest(&token), generation);
                assert_eq!(known.is_some(), is_remembered, "{denied:?}");
            }
        }
    }
}
