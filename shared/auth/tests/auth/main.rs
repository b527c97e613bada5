//! The verification of tokens, with real keys. The first genuine token that any of these tests verifies is the first one of
//! the process.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod attacks;
mod keys;
mod principals;

use auth::{AuthConfig, Authenticator, Denied, Identity};
use clap::Parser;
use testkit::TestIssuer;
use tokio_util::sync::CancellationToken;

const INVALID: Result<Identity, Denied> = Err(Denied::Invalid { expired: false });
const EXPIRED: Result<Identity, Denied> = Err(Denied::Invalid { expired: true });

#[derive(Parser)]
struct Service {
    #[command(flatten)]
    auth: AuthConfig,
}

/// Returns the settings of a service that trusts the issuer, with some others. An empty value unsets one.
fn config(issuer: &TestIssuer, others: &[(&'static str, &str)]) -> AuthConfig {
    let settings = issuer.settings();
    let settings = settings.iter().map(|(key, value)| (*key, value.as_str()));
    let kept = settings.filter(|(key, _)| !others.iter().any(|(other, _)| other == key));
    let all = kept.chain(others.iter().copied()).filter(|(_, value)| !value.is_empty());
    let flags =
        all.map(|(key, value)| format!("--{}={value}", key.to_lowercase().replace('_', "-")));
    Service::try_parse_from(["service".to_owned()].into_iter().chain(flags)).unwrap().auth
}

/// Starts an authenticator.
fn start(config: &AuthConfig) -> Authenticator {
    Authenticator::start(config, CancellationToken::new()).unwrap().unwrap()
}

/// Starts an authenticator that trusts the issuer, and waits for the keys.
async fn authenticator(issuer: &TestIssuer, others: &[(&'static str, &str)]) -> Authenticator {
    let authenticator = start(&config(issuer, others));
    authenticator.keys().wait_for(|up| *up).await.unwrap();
    authenticator
}
