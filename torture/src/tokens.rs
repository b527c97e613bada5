//! Tokens of the clients, where the system requires them.

use std::{fs, sync::Arc};

use anyhow::Result;
use tempfile::TempDir;
use testkit::{Api, ServiceBuilder, TestIssuer, settings};

/// Seconds for which a long token is valid: longer than any run.
pub(crate) const LONG: i64 = 24 * 60 * 60;

/// Scopes of clients that write in the name of all, too, and read what others write.
const ALL_SCOPES: &str = "messages:write-as messages:read-all broadcast:read";

/// The issuer of the tokens; none if authentication is off.
#[derive(Clone, Default)]
pub(crate) struct Tokens(Option<Arc<(TestIssuer, TempDir)>>);

impl Tokens {
    /// Starts an issuer.
    pub(crate) async fn start() -> Result<Self> {
        let dir = settings::scratch_dir("tokens-")?;
        fs::write(dir.path().join("state-secret"), "a secret of thirty-two bytes or more")?;
        Ok(Self(Some(Arc::new((TestIssuer::start().await?, dir)))))
    }

    /// Returns true if the system requires tokens.
    pub(crate) fn are_required(&self) -> bool {
        self.0.is_some()
    }

    /// Adds the settings of a service that trusts the issuer.
    pub(crate) fn settings(&self, service: ServiceBuilder) -> ServiceBuilder {
        let Some((issuer, dir)) = self.0.as_deref() else { return service };
        let service = service
            .env("AUTH_STATE_SECRET_FILE", dir.path().join("state-secret").display())
            .env("REQUIRE_ACTOR", true)
            // So that short tokens expire when they say.
            .env("AUTH_LEEWAY_S", 0);
        let settings = issuer.settings().into_iter();
        settings.fold(service, |service, (key, value)| service.env(key, value))
    }

    /// Returns a client with a token of a user that may do everything.
    pub(crate) fn trusted(&self, api: Api, user: &str) -> Api {
        with_token(api, self.token(user, ALL_SCOPES, LONG))
    }

    /// Returns a client with a token of a user that may do what concerns itself.
    pub(crate) fn of_user(&self, api: Api, user: &str) -> Api {
        with_token(api, self.token(user, "", LONG))
    }

    /// Returns a token of a user with these scopes, valid for so many seconds.
    pub(crate) fn token(&self, user: &str, scopes: &str, seconds: i64) -> Option<String> {
        let (issuer, _) = self.0.as_deref()?;
        Some(issuer.token_of(user, scopes, seconds))
    }
}

/// Returns a client with a token, if there is one.
pub(crate) fn with_token(api: Api, token: Option<String>) -> Api {
    match token {
        Some(token) => api.with_token(token),
        None => api,
    }
}
