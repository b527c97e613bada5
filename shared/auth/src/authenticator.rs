//! The verification of tokens.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use contracts::Scope;
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
    AuthConfig, Denied, Principal,
    cache::Cache,
    keys::{KeySet, Keys},
    token::{self, Refusal},
};

/// Maximum number of lines about refused tokens in a second.
const MAX_LINES_PER_SECOND: u32 = 10;

/// Whom a token is about, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Who has the token.
    pub principal: Arc<Principal>,
    /// The token's own time of its end, of which its client knows.
    pub exp: SystemTime,
    /// Time from which the token is refused: its `exp`, and the leeway.
    pub expires_at: SystemTime,
}

/// Verifies tokens. Cheap to clone.
#[derive(Clone)]
pub struct Authenticator(Arc<Inner>);

struct Inner {
    keys: Keys,
    rules: token::Rules,
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

    /// Verifies a token. Waits for the keys to be read again if the token's key is not known, but never for longer than
    /// a few seconds.
    pub async fn verify(&self, token: &str) -> Result<Identity, Denied> {
        let Some(set) = self.0.keys.current() else {
            return Err(self.0.unavailable(self.0.keys.retry_after()));
        };
        let digest = Cache::digest(token);
        if let Some(identity) = self.0.cache.get(&digest, set.generation()) {
            if SystemTime::now() < identity.expires_at {
                self.0.verified.count("hit");
                return Ok(identity);
            }
            return Err(self.0.refuse(Refusal::Expired));
        }
        match token::verify(token, &set, &self.0.rules) {
            Ok(identity) => Ok(self.0.accept(digest, &set, identity)),
            Err(Refusal::UnknownKey) => self.verify_with_new_keys(token, digest).await,
            Err(refusal) => Err(self.0.refuse(refusal)),
        }
    }

    /// Verifies a token whose key is not in the set, after the set has been read again. Even if it could not be: another
    /// request may have had it read meanwhile.
    async fn verify_with_new_keys(
        &self,
        token: &str,
        digest: [u8; 32],
    ) -> Result<Identity, Denied> {
        let read = self.0.keys.read_again().await;
        let retry_after = || read.err().unwrap_or_else(|| self.0.keys.retry_after());
        let Some(set) = self.0.keys.current() else {
            return Err(self.0.unavailable(retry_after()));
        };
        match token::verify(token, &set, &self.0.rules) {
            Ok(identity) => Ok(self.0.accept(digest, &set, identity)),
            // The issuer may have published the key since.
            Err(Refusal::UnknownKey) if read != Ok(true) => Err(self.0.unavailable(retry_after())),
            Err(refusal) => Err(self.0.refuse(refusal)),
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
    fn accept(&self, digest: [u8; 32], set: &KeySet, identity: Identity) -> Identity {
        self.verified.count("miss");
        self.cache.insert(digest, set.generation(), identity.clone());
        identity
    }

    /// Counts and logs a refusal.
    fn refuse(&self, refusal: Refusal) -> Denied {
        self.failures.count(refusal.label());
        if let Some(omitted) = self.log.admit(Instant::now()) {
            tracing::info!(reason = %refusal, omitted, "a token was refused");
        }
        refusal.denied()
    }

    fn unavailable(&self, retry_after: Duration) -> Denied {
        self.failures.count(Refusal::UnknownKey.label());
        Denied::KeysUnavailable { retry_after }
    }
}
