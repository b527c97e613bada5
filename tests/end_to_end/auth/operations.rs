//! Operations are known to those who have requested them.

use anyhow::{Context, Result};
use contracts::{Message, OperationId, Scope};
use end_to_end::{AuthSystem, draft};
use reqwest::Method;
use serde_json::Value;
use testkit::{Api, eventually};

use super::SOON;

/// Writes without waiting, and returns the operation.
async fn operation(
    api: &Api,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> Result<OperationId> {
    let mut request = api.request(method, path).header("prefer", "respond-async");
    if let Some(body) = body {
        request = request.json(&body);
    }
    let answer = api.send(request).await?;
    assert_eq!(answer.status, 202, "{}", answer.text);
    let location = answer.header("location").context("a location")?;
    Ok(location.strip_prefix("/api/operations/").context("an operation")?.parse()?)
}

#[tokio::test]
async fn an_operation_is_known_to_whoever_requested_it() -> Result<()> {
    let system = AuthSystem::start().await?;
    let (alice, writer) = (system.user("alice"), system.service(Scope::WriteAs));
    let draft = || Some(draft("alice", "bob", "hello"));
    let of_alice = operation(&alice, Method::POST, "/api/messages", draft()).await?;
    let of_writer = operation(&writer, Method::POST, "/api/messages", draft()).await?;
    let reader = system.service(Scope::ReadAll);
    let others = [&writer, &alice, &system.user("bob"), &system.user("carol")];
    for (operation, owner, stranger) in [(of_alice, &alice, &writer), (of_writer, &writer, &alice)]
    {
        let path = format!("/api/operations/{operation}");
        for known in [owner, &reader] {
            eventually("it has succeeded", SOON, async || {
                let answer = known.get(&path).await?;
                assert_eq!(answer.status, 200, "{}", answer.text);
                let read: Value = answer.json()?;
                assert_eq!(read["id"], operation.to_string());
                anyhow::ensure!(read["status"] == "succeeded", "{read}");
                Ok(())
            })
            .await;
        }
        for other in others.into_iter().filter(|other| !std::ptr::eq(*other, owner)) {
            let answer = other.get(&path).await?;
            assert_eq!(answer.status, 404, "{}", answer.text);
        }
        let flipped = operation.mac.map(|mac| mac.map(|byte| byte ^ 1));
        for forged in
            [OperationId { mac: None, ..operation }, OperationId { mac: flipped, ..operation }]
        {
            let path = format!("/api/operations/{forged}");
            assert_eq!(owner.get(&path).await?.status, 404);
            assert_eq!(stranger.get(&path).await?.status, 404);
            assert_eq!(reader.get(&path).await?.status, 200, "it needs no proof");
        }
        assert_eq!(system.system.api.get(&path).await?.status, 401);
    }
    Ok(())
}

#[tokio::test]
async fn the_worker_decides_a_deletion_that_nobody_waits_for() -> Result<()> {
    let system = AuthSystem::start().await?;
    let message = system.create("alice", "bob", "hello").await?;
    let path = format!("/api/messages/{}", message.id);
    for (user, expected) in [("bob", 403), ("carol", 404)] {
        let api = system.user(user);
        let operation = operation(&api, Method::DELETE, &path, None).await?;
        eventually("it has failed", SOON, async || {
            let read: Value = api.get(&format!("/api/operations/{operation}")).await?.json()?;
            anyhow::ensure!(read["status"] == "failed", "{read}");
            assert_eq!(read["error"]["status"], expected, "{read}");
            Ok(())
        })
        .await;
    }
    assert_eq!(system.user("alice").get(&path).await?.json::<Message>()?, message);
    Ok(())
}

#[tokio::test]
async fn every_gateway_knows_the_operations_of_the_others() -> Result<()> {
    let system = AuthSystem::start().await?;
    let other = AuthSystem::gateway(&system.system.env, &system.issuer)?.start().await?;
    let other_api = other.api()?;
    let draft = draft("alice", "bob", "hello");
    let operation =
        operation(&system.user("alice"), Method::POST, "/api/messages", Some(draft)).await?;
    let path = format!("/api/operations/{operation}");
    let token = |user| system.issuer.token(user);
    assert_eq!(other_api.with_token(token("alice")).get(&path).await?.status, 200);
    assert_eq!(other_api.with_token(token("bob")).get(&path).await?.status, 404);
    Ok(())
}
