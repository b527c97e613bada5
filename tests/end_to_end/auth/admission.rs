//! Which requests are let in, and what the others are told.

use anyhow::{Context, Result, ensure};
use contracts::Scope;
use end_to_end::{AuthSystem, draft};
use reqwest::Method;
use serde_json::Value;
use testkit::{
    Answer, Answers, Api, Subscriber, TestEnvironment, TestIssuer, eventually, free_port,
};

use super::SOON;

const METADATA: &str = "/.well-known/oauth-protected-resource";

/// A message that does not exist.
const MESSAGE: &str = "/api/messages/0199f0c1-6a3e-7c55-9d0e-2f4b8a6c1e11";

fn challenge(answer: &Answer) -> &str {
    answer.header("www-authenticate").unwrap_or_default()
}

/// Returns a token that looks like one of the issuer's, but has another signature.
fn forged(issuer: &TestIssuer) -> String {
    let token = issuer.token("alice");
    let (rest, signature) = token.rsplit_once('.').unwrap_or_default();
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    format!("{rest}.{first}{}", &signature[1..])
}

#[tokio::test]
async fn a_refusal_says_what_kind_of_token_is_needed_and_where_to_get_it() -> Result<()> {
    let system = AuthSystem::start().await?;
    let api = &system.system.api;
    let metadata = format!("resource_metadata=\"{}{METADATA}\"", system.system.gateway.url());
    let none = api.get(MESSAGE).await?;
    assert_eq!((none.status, challenge(&none)), (401, &*format!("Bearer {metadata}")));
    let invalid = format!("Bearer error=\"invalid_token\", {metadata}");
    let mut bodies = vec![];
    for token in
        [forged(&system.issuer), system.issuer.token_for("alice", -120), "not-a-token".to_owned()]
    {
        let refused = api.with_token(token).get(MESSAGE).await?;
        assert_eq!((refused.status, challenge(&refused)), (401, &*invalid), "{}", refused.text);
        bodies.push(refused.text);
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "all look the same");
    for other in ["Basic YTpi", "Bearer", "Bearer a b", ""] {
        let request = api.request(Method::GET, MESSAGE).header("authorization", other);
        assert_eq!(challenge(&api.send(request).await?), invalid, "{other}");
    }
    let lacking =
        system.service(Scope::ReadAll).post("/api/messages", &draft("a", "b", "c")).await?;
    let scope = "Bearer error=\"insufficient_scope\", scope=\"messages:write-as\"";
    assert_eq!((lacking.status, challenge(&lacking)), (403, &*format!("{scope}, {metadata}")));
    let nobody = system.issuer.token_with_scope(&"x".repeat(65), "of-another-api");
    let nobody = api.with_token(nobody).get(MESSAGE).await?;
    assert_eq!(nobody.status, 403, "{}", nobody.text);
    assert!(challenge(&nobody).starts_with("Bearer error=\"insufficient_scope\""));
    // What is forbidden to this user, whatever its scopes, is no challenge.
    let foreign = system.user("carol").post("/api/messages", &draft("a", "b", "c")).await?;
    assert_eq!((foreign.status, challenge(&foreign)), (403, ""));
    Ok(())
}

#[tokio::test]
async fn the_metadata_is_open_and_its_address_the_clients() -> Result<()> {
    let system =
        AuthSystem::start_with(|gateway| gateway.env("TRUSTED_PROXIES", "127.0.0.1")).await?;
    let api = &system.system.api;
    let metadata = api.get(METADATA).await?;
    assert_eq!(metadata.header("content-type"), Some("application/json"));
    let metadata: Value = metadata.json()?;
    assert_eq!(metadata["resource"], TestIssuer::AUDIENCE);
    assert_eq!(metadata["authorization_servers"][0], TestIssuer::ISSUER);
    let through_proxy = api
        .request(Method::GET, MESSAGE)
        .header("x-forwarded-proto", "https")
        .header("x-forwarded-host", "api.example");
    let refused = api.send(through_proxy).await?;
    let url = format!("resource_metadata=\"https://api.example{METADATA}\"");
    assert_eq!(challenge(&refused), format!("Bearer {url}"));
    Ok(())
}

#[tokio::test]
async fn a_proxy_that_nobody_trusts_names_no_host() -> Result<()> {
    let system = AuthSystem::start().await?;
    let api = &system.system.api;
    let request = api.request(Method::GET, MESSAGE).header("x-forwarded-host", "evil.example");
    let refused = api.send(request).await?;
    assert!(challenge(&refused).contains(&system.system.gateway.url()), "{}", challenge(&refused));
    Ok(())
}

#[tokio::test]
async fn what_is_open_ignores_tokens() -> Result<()> {
    let system = AuthSystem::start().await?;
    let api = &system.system.api;
    for api in [api.clone(), api.with_token(forged(&system.issuer))] {
        for path in
            ["/livez", "/readyz", "/metrics", "/docs", "/openapi.json", "/problems", METADATA]
        {
            assert_eq!(api.get(path).await?.status, 200, "{path}");
        }
        for path in ["/", "/api", "/api/unknown"] {
            assert_eq!(api.get(path).await?.status, 404, "{path}");
        }
        let allow = api.send(api.request(Method::PATCH, "/api/messages")).await?;
        assert_eq!(allow.status, 405);
    }
    let off = TestEnvironment::new().await;
    let off = off.gateway().start_unready().await?;
    assert_eq!(off.api()?.get(METADATA).await?.status, 404);
    Ok(())
}

#[tokio::test]
async fn without_keys_a_gateway_is_not_ready_and_refuses_nobody_for_good() -> Result<()> {
    let env = TestEnvironment::new().await;
    let issuer = TestIssuer::start().await?;
    issuer.server().answer(Answers::Gone);
    let gateway = AuthSystem::gateway(&env, &issuer)?.start_unready().await?;
    let api = gateway.api()?;
    eventually("only the keys are missing", SOON, async || {
        let answer = api.get("/readyz").await?;
        assert_eq!(answer.status, 503, "{}", answer.text);
        let dependencies = &answer.json::<Value>()?["dependencies"];
        ensure!(dependencies["mongodb"] == "up" && dependencies["rabbitmq_publish"] == "up");
        ensure!(dependencies["jwks"] == "down");
        Ok(())
    })
    .await;
    let alice = api.with_token(issuer.token("alice"));
    let refused = alice.get(MESSAGE).await?;
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert!(refused.text.contains("/problems/keys-unavailable"), "{}", refused.text);
    let retry_after: u64 = refused.header("retry-after").context("a time")?.parse()?;
    assert!(retry_after > 0);
    let stream = alice.request(Method::GET, "/api/events").header("accept", "text/event-stream");
    assert_eq!(alice.send(stream).await?.status, 503, "no event: a new token may be needed");
    assert_eq!(api.get(MESSAGE).await?.status, 401, "no token is no token");
    issuer.server().answer(Answers::Good);
    eventually("the keys are read", SOON, async || {
        ensure!(alice.get(MESSAGE).await?.status == 404);
        ensure!(api.get("/readyz").await?.status == 200);
        Ok(())
    })
    .await;
    Ok(())
}

#[tokio::test]
async fn invalid_tokens_are_limited_by_address_and_valid_ones_are_not() -> Result<()> {
    let system = AuthSystem::start().await?;
    let api = &system.system.api;
    let expired = api.with_token(system.issuer.token_for("alice", -120));
    for _ in 0..60 {
        assert_eq!(expired.get(MESSAGE).await?.status, 401, "it was genuine");
    }
    let guessing = api.with_token(forged(&system.issuer));
    let limited = eventually("too many", SOON, async || {
        let answer = guessing.get(MESSAGE).await?;
        ensure!(answer.status == 429, "{}", answer.status);
        Ok(answer)
    })
    .await;
    assert!(limited.text.contains("/problems/rate-limited"), "{}", limited.text);
    assert!(limited.header("retry-after").is_some());
    assert_eq!(system.user("alice").get(MESSAGE).await?.status, 404);
    Ok(())
}

#[tokio::test]
async fn requests_for_the_broadcaster_are_admitted_by_the_same_rules() -> Result<()> {
    // Nothing listens there: whoever gets that far is let in.
    let nowhere = format!("http://127.0.0.1:{}", free_port()?);
    let system = AuthSystem::start_with(|it| it.env("BROADCASTER_URL", nowhere)).await?;
    let gateway = &system.system.gateway;
    let let_in = 502;
    let api = &system.system.api;
    for path in ["/api/events?user_id=alice", "/api/chat"] {
        let none = api.get(path).await?;
        assert_eq!((none.status, challenge(&none).is_empty()), (401, false), "{path}");
        let refused = api.with_token(forged(&system.issuer)).get(path).await?;
        assert_eq!(refused.status, 401, "{path}");
        let stream = api.request(Method::GET, path).header("accept", "text/event-stream");
        assert_eq!(api.send(stream).await?.status, 401, "a refusal for good, {path}");
        let handshake = async |headers: &[(&'static str, &str)]| {
            let url = gateway.websocket_url(path);
            Subscriber::connect_with(&url, headers).await.err().context("not refused")
        };
        // It may send its token first.
        let without = format!("{:#}", handshake(&[]).await?);
        assert!(without.contains("502"), "{without}");
        let forged = format!("Bearer {}", forged(&system.issuer));
        let forged = format!("{:#}", handshake(&[("authorization", &forged)]).await?);
        assert!(forged.contains("401"), "{forged}");
        let subprotocol = "messages.v1, base64url.bearer.authorization.messages.bm90LWEtdG9rZW4";
        let wrong = handshake(&[("sec-websocket-protocol", subprotocol)]).await?;
        assert!(format!("{wrong:#}").contains("401"), "{wrong:#}");
    }
    assert_eq!(system.user("alice").get("/api/events?user_id=alice").await?.status, let_in);
    Ok(())
}

#[tokio::test]
async fn a_gateway_with_authentication_needs_a_secret() -> Result<()> {
    let env = TestEnvironment::new().await;
    let issuer = TestIssuer::start().await?;
    let short = env.dir().join("short");
    std::fs::write(&short, "a secret of 24 characters\n")?;
    let gateway = AuthSystem::gateway(&env, &issuer)?;
    for gateway in [
        gateway.clone().env_remove("AUTH_STATE_SECRET_FILE"),
        gateway.clone().env("AUTH_STATE_SECRET_FILE", "/nowhere"),
        gateway.clone().env("AUTH_STATE_SECRET_FILE", short.display()),
    ] {
        let output = gateway.output(SOON).await?;
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{printed}");
        assert!(printed.contains("AUTH_STATE_SECRET_FILE"), "{printed}");
        assert!(!printed.contains("of 24 characters"), "{printed}");
    }
    Ok(())
}

#[tokio::test]
async fn a_page_of_another_origin_can_send_a_token_and_read_the_refusal() -> Result<()> {
    let origin = "https://app.example";
    let system = AuthSystem::start_with(|gateway| gateway.env("CORS_ORIGINS", origin)).await?;
    let api: &Api = &system.system.api;
    let preflight = api
        .request(Method::OPTIONS, MESSAGE)
        .header("origin", origin)
        .header("access-control-request-method", "GET")
        .header("access-control-request-headers", "authorization");
    let preflight = api.send(preflight).await?;
    let allowed = preflight.header("access-control-allow-headers").unwrap_or_default();
    assert!(preflight.status == 200 && allowed.contains("authorization"), "{allowed}");
    let refused = api.send(api.request(Method::GET, MESSAGE).header("origin", origin)).await?;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("access-control-allow-origin"), Some(origin));
    let exposed = refused.header("access-control-expose-headers").unwrap_or_default();
    for name in ["www-authenticate", "ratelimit", "ratelimit-policy", "retry-after"] {
        assert!(exposed.split(',').any(|it| it.trim() == name), "{name} in {exposed}");
    }
    Ok(())
}
