//! The upgrade from release 0.1: what it stored and what it left in the queue.

use std::{collections::HashMap, time::Duration};

use anyhow::{Result, ensure};
use contracts::{Message, OperationId};
use end_to_end::inject;
use mongodb::{Client, bson::Document};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Answer, Api, TestEnvironment, eventually};

/// What release 0.1 stored: MongoDB's extended JSON.
const STORED: &str = include_str!("../../shared/store/tests/fixtures/format_1.json");

const PLAIN: &str = "019aa000-0000-7000-8000-000000000001";
const EDITED: &str = "019aa000-0000-7000-8000-000000000002";
const DELETED: &str = "019aa000-0000-7000-8000-000000000003";
const NEW: &str = "019aa000-0000-7000-8000-000000000004";

/// A delivery of release 0.1 that its worker had applied in part when it was stopped: the first three commands are those
/// that made what is stored.
const QUEUED: &str = r#"[
    {"format":1,"id":"019aa000-0000-7000-8000-0000000000b1","message_id":"019aa000-0000-7000-8000-000000000002","issued_at":"2026-01-31T12:00:01.000Z","action":{"edit":{"content":"by b1","edit_timestamp":"2026-01-31T12:00:01.000Z"}}},
    {"format":1,"id":"019aa000-0000-7000-8000-0000000000b2","message_id":"019aa000-0000-7000-8000-000000000002","issued_at":"2026-01-31T12:00:02.000Z","action":{"edit":{"content":"by b2","edit_timestamp":"2026-01-31T12:00:02.000Z","if_match":2}}},
    {"format":1,"id":"019aa000-0000-7000-8000-0000000000c2","message_id":"019aa000-0000-7000-8000-000000000003","issued_at":"2026-01-31T12:00:02.000Z","action":{"delete":{}}},
    {"format":1,"id":"019aa000-0000-7000-8000-0000000000b3","message_id":"019aa000-0000-7000-8000-000000000002","issued_at":"2026-01-31T12:00:03.000Z","action":{"edit":{"content":"by b3","edit_timestamp":"2026-01-31T12:00:03.000Z","if_match":3}}}
]"#;

const SOON: Duration = Duration::from_secs(30);

/// Stores the fixture, with a create that is young enough to be applied in the queue behind the others.
async fn leave(env: &TestEnvironment, now: &str) -> Result<()> {
    let database = Client::with_uri_str(env.mongo_uri()).await?.database(env.database());
    let stored: HashMap<String, Vec<Document>> = serde_json::from_str(STORED)?;
    for (collection, documents) in stored {
        database.collection(&collection).insert_many(documents).await?;
    }
    inject(env, QUEUED.as_bytes()).await?;
    let create =
        json!({ "create": { "from_user_id": "carol", "to_user_id": "bob", "content": "new" } });
    let create = json!([{
        "format": 1, "id": "019aa000-0000-7000-8000-0000000000e1", "message_id": NEW,
        "issued_at": now, "action": create,
    }]);
    inject(env, create.to_string().as_bytes()).await
}

async fn state(api: &Api, command: &str, message: &str) -> Result<Value> {
    let id = OperationId::new(
        serde_json::from_value(command.into())?,
        serde_json::from_value(message.into())?,
    );
    let answer = api.get(&format!("/api/operations/{id}")).await?;
    Ok(answer.json::<Value>()?["status"].clone())
}

fn has_version(answer: &Answer, version: u64) -> bool {
    answer.status == 200 && answer.header("etag") == Some(format!("\"{version}\"").as_str())
}

#[tokio::test]
async fn what_the_former_release_stored_and_queued_goes_on_where_it_was() -> Result<()> {
    let env = TestEnvironment::new().await;
    // The workers of 0.1 are stopped, those of 0.2 not started.
    let gateway = env.gateway().start().await?;
    let api = gateway.api()?;
    let now = contracts::Timestamp::now().to_string();
    leave(&env, &now).await?;
    let asynchronous = |method, id: &str, body: Value| {
        let request = api.request(method, &format!("/api/messages/{id}"));
        api.send(request.header("prefer", "wait=0").json(&body))
    };
    let edit =
        asynchronous(Method::PUT, PLAIN, json!({ "content": "while no worker runs" })).await?;
    assert_eq!(edit.status, 202, "{}", edit.text);

    let worker = env.storage_worker().start().await?;
    eventually("everything is applied", SOON, async || {
        let plain = api.get(&format!("/api/messages/{PLAIN}")).await?;
        ensure!(has_version(&plain, 2), "{}", plain.text);
        ensure!(plain.json::<Message>()?.content.as_str() == "while no worker runs");
        let edited = api.get(&format!("/api/messages/{EDITED}")).await?;
        ensure!(has_version(&edited, 4), "{}", edited.text);
        ensure!(edited.json::<Message>()?.content.as_str() == "by b3");
        let new = api.get(&format!("/api/messages/{NEW}")).await?;
        ensure!(has_version(&new, 1), "{}", new.text);
        Ok(())
    })
    .await;
    assert_eq!(api.get(&format!("/api/messages/{DELETED}")).await?.status, 404);
    for (command, message) in [("b1", EDITED), ("b2", EDITED), ("b3", EDITED), ("c2", DELETED)] {
        let command = format!("019aa000-0000-7000-8000-0000000000{command}");
        assert_eq!(state(&api, &command, message).await?, "succeeded", "{command}");
    }
    // The messages live on.
    let path = format!("/api/messages/{EDITED}");
    let edit = api.request(Method::PUT, &path).header("if-match", "\"4\"");
    let edited = api.send(edit.json(&json!({ "content": "by 0.2" }))).await?;
    assert!(has_version(&edited, 5), "{}", edited.text);
    assert_eq!(api.send(api.request(Method::DELETE, &path)).await?.status, 204);
    assert_eq!(state(&api, "019aa000-0000-7000-8000-0000000000b3", EDITED).await?, "succeeded");
    assert_eq!(env.management().queue_depth("messages.dead").await?, 0);
    drop(worker);
    Ok(())
}
