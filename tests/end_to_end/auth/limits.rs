//! Limits of requests, per user or per address.

use anyhow::{Context, Result};
use end_to_end::{AuthSystem, System, draft};
use reqwest::Method;
use testkit::{Answer, TestEnvironment};

/// A message that does not exist.
const MESSAGE: &str = "/api/messages/0199f0c1-6a3e-7c55-9d0e-2f4b8a6c1e11";

/// Returns the limit's name and how many requests are left.
fn left(answer: &Answer) -> Result<(String, u32)> {
    let value = answer.header("ratelimit").context("no RateLimit")?;
    let (name, rest) = value.split_once(";r=").context("no r")?;
    let (left, seconds) = rest.split_once(";t=").context("no t")?;
    seconds.parse::<u64>()?;
    Ok((name.to_owned(), left.parse()?))
}

#[tokio::test]
async fn each_user_has_a_limit_of_its_own_for_reads_and_for_writes() -> Result<()> {
    let system = AuthSystem::start_with(|gateway| {
        // So few in so long that none comes back during the test.
        gateway.env("RATE_LIMIT_READS", "2/3600s").env("RATE_LIMIT_WRITES", "1/3600s")
    })
    .await?;
    let (alice, bob) = (system.user("alice"), system.user("bob"));
    for remaining in [1, 0] {
        let answer = alice.get(MESSAGE).await?;
        assert_eq!(answer.status, 404);
        assert_eq!(left(&answer)?, ("\"reads\"".to_owned(), remaining));
        assert_eq!(answer.header("ratelimit-policy"), Some("\"reads\";q=2;w=3600"));
    }
    let refused = alice.get(MESSAGE).await?;
    assert_eq!(refused.status, 429, "{}", refused.text);
    assert!(refused.text.contains("/problems/rate-limited"), "{}", refused.text);
    assert_eq!(left(&refused)?, ("\"reads\"".to_owned(), 0));
    let retry_after: u64 = refused.header("retry-after").context("no time")?.parse()?;
    assert!((1700..=1800).contains(&retry_after), "{retry_after}");
    // An event stream is a read, too; the refusal passes, so a browser may come again.
    let events = alice.get("/api/events?user_id=alice").await?;
    assert_eq!(events.status, 429, "{}", events.text);
    let head = alice.send(alice.request(Method::HEAD, MESSAGE)).await?;
    assert_eq!(head.status, 429);
    let written = alice.post("/api/messages", &draft("alice", "bob", "hello")).await?;
    assert_eq!((written.status, left(&written)?), (201, ("\"writes\"".to_owned(), 0)));
    let written = alice.post("/api/messages", &draft("alice", "bob", "hello")).await?;
    assert_eq!(written.status, 429);
    assert_eq!(bob.get(MESSAGE).await?.status, 404);
    // Requests without a token count by address.
    for status in [401, 401, 429] {
        let nobodys = system.system.api.get(MESSAGE).await?;
        assert_eq!((nobodys.status, left(&nobodys)?.0), (status, "\"reads\"".to_owned()));
    }
    assert_eq!(system.user("carol").get(MESSAGE).await?.status, 404);
    Ok(())
}

#[tokio::test]
async fn without_users_each_address_has_a_limit() -> Result<()> {
    let env = TestEnvironment::new().await;
    let gateway = env
        .gateway()
        .env("RATE_LIMIT_READS", "1/3600s")
        .env("TRUSTED_PROXIES", "127.0.0.1")
        .start()
        .await?;
    let api = gateway.api()?;
    let from = async |address: &str| {
        let request = api.request(Method::GET, MESSAGE).header("x-forwarded-for", address);
        Ok::<_, anyhow::Error>(api.send(request).await?.status)
    };
    assert_eq!(from("192.0.2.1").await?, 404);
    assert_eq!(from("192.0.2.1").await?, 429);
    assert_eq!(from("192.0.2.2").await?, 404);
    assert_eq!(from("2001:db8::1").await?, 404);
    assert_eq!(from("2001:db8::2").await?, 429, "of the same network");
    assert_eq!(from("2001:db8:0:1::1").await?, 404);
    let untrusting = env.gateway().env("RATE_LIMIT_READS", "1/3600s").start().await?;
    let api = untrusting.api()?;
    let claim = async |address: &str| {
        let request = api.request(Method::GET, MESSAGE).header("x-forwarded-for", address);
        Ok::<_, anyhow::Error>(api.send(request).await?.status)
    };
    assert_eq!((claim("192.0.2.1").await?, claim("192.0.2.2").await?), (404, 429));
    Ok(())
}

#[tokio::test]
async fn without_a_setting_nothing_is_limited_or_said_of_limits() -> Result<()> {
    let system = System::start().await?;
    let answer = system.api.get(MESSAGE).await?;
    assert_eq!((answer.status, answer.header("ratelimit")), (404, None));
    assert_eq!(answer.header("ratelimit-policy"), None);
    Ok(())
}
