//! Writes that are answered before they are stored, and what becomes of them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use contracts::{Command, CommandId, Message, OperationId};
use end_to_end::{
    System, at_millis, create_command, delete_command, draft, edit_command, for_message, inject,
};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Answer, eventually};

const SOON: Duration = Duration::from_secs(20);

async fn ask(
    system: &System,
    method: Method,
    path: &str,
    prefer: &str,
    body: &Value,
) -> Result<Answer> {
    let api = &system.api;
    api.send(api.request(method, path).header("prefer", prefer).json(body)).await
}

/// Waits until an operation has ended, and gives its end.
async fn end_of(system: &System, operation: &str) -> Value {
    eventually("the operation ends", SOON, async || {
        let state: Value = system.api.get(operation).await?.json()?;
        ensure!(state["status"] != "pending", "{state}");
        Ok(state)
    })
    .await
}

fn location(answer: &Answer) -> Result<String> {
    Ok(answer.header("location").context("no Location")?.to_owned())
}

fn operation(command: &Command) -> String {
    let id = OperationId::new(command.id, command.message_id());
    format!("/api/operations/{id}")
}

#[tokio::test]
async fn respond_async_is_202_and_its_operation_succeeds() -> Result<()> {
    let system = System::start().await?;
    let body = draft("alice", "bob", "hello");
    let answer = ask(&system, Method::POST, "/api/messages", "respond-async", &body).await?;
    assert_eq!(answer.status, 202, "{}", answer.text);
    assert_eq!(answer.header("preference-applied"), Some("respond-async"));
    let message: Message = answer.json()?;
    let end = end_of(&system, &location(&answer)?).await;
    assert_eq!((&end["status"], &end["message_id"]), (&json!("succeeded"), &json!(message.id)));
    assert_eq!(end["error"], Value::Null);
    assert_eq!(system.read(&message).await?, Some(message.clone()));

    let path = format!("/api/messages/{}", message.id);
    let edit = json!({ "content": "edited" });
    let answer = ask(&system, Method::PUT, &path, "respond-async", &edit).await?;
    assert_eq!(answer.status, 202);
    assert_eq!(answer.json::<Message>()?.content.as_str(), "edited");
    assert_eq!(end_of(&system, &location(&answer)?).await["status"], "succeeded");

    let answer = ask(&system, Method::DELETE, &path, "respond-async", &json!(null)).await?;
    assert_eq!(answer.status, 202);
    let operation = location(&answer)?;
    assert_eq!(end_of(&system, &operation).await["status"], "succeeded");
    // The tombstone still remembers the creation and the edit, too.
    assert_eq!(end_of(&system, &operation).await["status"], "succeeded");
    Ok(())
}

#[tokio::test]
async fn a_wait_is_honoured_and_said_so() -> Result<()> {
    let system = System::start().await?;
    let body = draft("alice", "bob", "hello");
    let answer = ask(&system, Method::POST, "/api/messages", "wait=10", &body).await?;
    assert_eq!((answer.status, answer.header("preference-applied")), (201, Some("wait=10")));
    system.worker.kill()?;
    let answer = ask(&system, Method::POST, "/api/messages", "wait=0", &body).await?;
    assert_eq!((answer.status, answer.header("preference-applied")), (202, Some("wait=0")));
    Ok(())
}

#[tokio::test]
async fn a_failed_operation_has_the_problem_of_the_synchronous_answer() -> Result<()> {
    let system = System::start().await?;
    let message = system.create("alice", "bob", "first").await?;
    let path = format!("/api/messages/{}", message.id);
    let conditional = |method| {
        let request = system.api.request(method, &path).header("prefer", "respond-async");
        request.header("if-match", "\"7\"")
    };
    let edit = conditional(Method::PUT).json(&json!({ "content": "second" }));
    for request in [edit, conditional(Method::DELETE)] {
        let answer = system.api.send(request).await?;
        assert_eq!(answer.status, 202);
        let end = end_of(&system, &location(&answer)?).await;
        assert_eq!(end["status"], "failed");
        assert_eq!(end["error"]["status"], 412);
        assert_eq!(end["error"]["type"], "/problems/version-mismatch");
    }
    let unknown = format!("/api/messages/{}", contracts::MessageId::generate());
    let answer = ask(&system, Method::DELETE, &unknown, "respond-async", &json!(null)).await?;
    assert_eq!(end_of(&system, &location(&answer)?).await["error"]["status"], 404);
    Ok(())
}

#[tokio::test]
async fn an_operation_that_changed_nothing_ends_too() -> Result<()> {
    let system = System::start().await?;
    let message = system.create("alice", "bob", "first").await?;
    let newer = at_millis(message.publish_timestamp, 2_000)?;
    let older = at_millis(message.publish_timestamp, 1_000)?;
    let newer = edit_command(message.id, "newer", newer, None)?;
    let superseded = edit_command(message.id, "older", older, None)?;
    let replay = for_message(message.id, create_command("alice", "bob", "first")?);
    let reuse = for_message(message.id, create_command("alice", "bob", "something else")?);
    let delete = delete_command(message.id, None);
    let mut late = create_command("alice", "bob", "late")?;
    late.issued_at = at_millis(late.issued_at, -7 * 24 * 60 * 60 * 1000)?;
    for command in [&newer, &superseded, &replay, &reuse, &delete, &replay, &superseded, &late] {
        inject(&system.env, &serde_json::to_vec(&[command])?).await?;
    }
    for (command, status) in [
        (&late, "dead_lettered"),
        (&newer, "succeeded"),
        (&superseded, "succeeded"),
        (&replay, "succeeded"),
        (&reuse, "failed"),
        (&delete, "succeeded"),
    ] {
        assert_eq!(end_of(&system, &operation(command)).await["status"], status, "{command:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_edit_that_many_others_followed_has_still_succeeded() -> Result<()> {
    let system = System::start().await?;
    let message = system.create("alice", "bob", "first").await?;
    let mut edits = Vec::new();
    for number in 1..=40 {
        let when = at_millis(message.publish_timestamp, number)?;
        edits.push(edit_command(message.id, &format!("edit {number}"), when, None)?);
    }
    inject(&system.env, &serde_json::to_vec(&edits)?).await?;
    assert_eq!(end_of(&system, &operation(&edits[39])).await["status"], "succeeded");
    assert_eq!(end_of(&system, &operation(&edits[0])).await["status"], "succeeded");
    Ok(())
}

#[tokio::test]
async fn what_names_no_operation_is_refused() -> Result<()> {
    let system = System::start().await?;
    assert_eq!(system.api.get("/api/operations/nonsense").await?.status, 422);
    let made_up = format!("/api/operations/{}", "a".repeat(64));
    assert_eq!(system.api.get(&made_up).await?.status, 422);
    // One so old that whatever was recorded of it has expired.
    let old = uuid::Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, 1_700_000_000, 0));
    let message = system.create("alice", "bob", "hello").await?;
    for message_id in [message.id, contracts::MessageId::generate()] {
        let id = OperationId::new(CommandId::from(old), message_id);
        let answer = system.api.get(&format!("/api/operations/{id}")).await?;
        assert_eq!(answer.status, 404, "{}", answer.text);
        assert!(answer.text.contains("/problems/operation-expired"), "{}", answer.text);
    }
    // One that no clock has reached.
    let future = uuid::Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, 4_000_000_000, 0));
    let id = OperationId::new(CommandId::from(future), message.id);
    let answer = system.api.get(&format!("/api/operations/{id}")).await?;
    assert_eq!(answer.status, 404, "{}", answer.text);
    assert!(answer.text.contains("/problems/operation-not-found"), "{}", answer.text);
    // One that was never issued can't be told from one that is under way.
    let command_id = CommandId::generate();
    let id = OperationId::new(command_id, contracts::MessageId::generate());
    let state: Value = system.api.get(&format!("/api/operations/{id}")).await?.json()?;
    assert_eq!(state["status"], "pending");
    Ok(())
}
