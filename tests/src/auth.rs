//! A system that lets only those in who have a token.

use std::fs;

use anyhow::Result;
use contracts::{Message, Scope};
use testkit::{Api, ServiceBuilder, TestEnvironment, TestIssuer};

use crate::{System, created};

/// The secret of the gateways that [`AuthSystem`] starts.
pub const STATE_SECRET: &str = "a secret of tests that everybody may read";

/// A system with `AUTH=jwt`, and the issuer that it trusts.
pub struct AuthSystem {
    /// The services. Their [`System::api`] has no token.
    pub system: System,
    /// The issuer.
    pub issuer: TestIssuer,
}

impl AuthSystem {
    /// Starts a storage worker that demands actors, and a gateway.
    pub async fn start() -> Result<Self> {
        Self::start_with(|gateway| gateway).await
    }

    /// Does the same with more settings of the gateway.
    pub async fn start_with(more: impl FnOnce(ServiceBuilder) -> ServiceBuilder) -> Result<Self> {
        let env = TestEnvironment::new().await;
        let issuer = TestIssuer::start().await?;
        let worker = env.storage_worker().env("REQUIRE_ACTOR", true);
        let gateway = more(Self::gateway(&env, &issuer)?);
        let (worker, gateway) = tokio::try_join!(worker.start(), gateway.start())?;
        let api = gateway.api()?;
        Ok(Self { system: System { worker, gateway, api, env }, issuer })
    }

    /// A gateway that trusts an issuer.
    pub fn gateway(env: &TestEnvironment, issuer: &TestIssuer) -> Result<ServiceBuilder> {
        let secret = env.dir().join("state-secret");
        fs::write(&secret, STATE_SECRET)?;
        let gateway = env.gateway().env("AUTH_STATE_SECRET_FILE", secret.display());
        Ok(Self::trusting(gateway, issuer))
    }

    /// Lets any service trust an issuer.
    pub fn trusting(service: ServiceBuilder, issuer: &TestIssuer) -> ServiceBuilder {
        issuer.settings().into_iter().fold(service, |service, (key, value)| service.env(key, value))
    }

    /// A client of the gateway with the token of a user.
    #[must_use]
    pub fn user(&self, user: &str) -> Api {
        self.system.api.with_token(self.issuer.token(user))
    }

    /// A client of the gateway with the token of a service, which is no user and has this scope.
    #[must_use]
    pub fn service(&self, scope: Scope) -> Api {
        // Too long for a user id.
        let subject = format!("service-{}", "x".repeat(64));
        self.system.api.with_token(self.issuer.token_with_scope(&subject, scope.as_str()))
    }

    /// Creates a message as its sender.
    pub async fn create(&self, from: &str, to: &str, content: &str) -> Result<Message> {
        created(&self.user(from), from, to, content).await
    }
}
