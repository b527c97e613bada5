//! The cost of a token: verified for the first time, and remembered. Prints nanoseconds for each algorithm.

use std::{hint::black_box, time::Instant};

use anyhow::{Context, Result};
use auth::{AuthConfig, Authenticator};
use clap::Parser;
use testkit::{TestIssuer, TestKey};
use tokio_util::sync::CancellationToken;

const TOKENS: u64 = 2_000;
const ROUNDS: u64 = 200_000;

#[derive(Parser)]
struct Service {
    #[command(flatten)]
    auth: AuthConfig,
}

#[tokio::main]
async fn main() -> Result<()> {
    for algorithm in TestKey::PUBLIC_KEY_ALGORITHMS {
        let issuer = TestIssuer::with_key(TestKey::new(algorithm).with_id("key-1")).await?;
        let flags = issuer
            .settings()
            .map(|(key, value)| format!("--{}={value}", key.to_lowercase().replace('_', "-")));
        let config = Service::try_parse_from(["bench".to_owned()].into_iter().chain(flags))?.auth;
        let authenticator = Authenticator::start(&config, CancellationToken::new())?;
        let authenticator = authenticator.context("AUTH is off")?;
        authenticator.keys().wait_for(|up| *up).await?;
        let tokens: Vec<String> = (0..TOKENS).map(|n| issuer.token(&format!("user-{n}"))).collect();
        let begun = Instant::now();
        for token in &tokens {
            black_box(authenticator.verify(token).await?);
        }
        let first = begun.elapsed().as_nanos() / u128::from(TOKENS);
        let begun = Instant::now();
        for token in tokens.iter().cycle().take(usize::try_from(ROUNDS)?) {
            black_box(authenticator.verify(token).await?);
        }
        let remembered = begun.elapsed().as_nanos() / u128::from(ROUNDS);
        let bytes = tokens[0].len();
        println!("{algorithm}: {bytes} bytes, first {first} ns, remembered {remembered} ns");
    }
    Ok(())
}
