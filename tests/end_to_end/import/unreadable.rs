//! Documents of another service that are not imported, in the collection of messages.

use anyhow::{Context, Result, ensure};
use contracts::Message;
use end_to_end::System;
use mongodb::bson::{Bson, DateTime, Document, doc, oid::ObjectId};
use serde_json::Value;
use testkit::{Subscriber, TestEnvironment, eventually};

use super::{SOON, changed, collection, legacy};

#[tokio::test]
async fn documents_of_another_service_are_told_and_do_not_cost_a_frame() -> Result<()> {
    let env = TestEnvironment::new().await;
    let messages = collection::<Document>(&env, "messages").await?;
    let id = ObjectId::parse_str("66f0a1b2c3d4e5f601020304")?;
    messages.insert_one(legacy(id, "of another service")).await?;
    let others = (0..5_000).map(|number| legacy(format!("old {number}"), "of another service"));
    messages.insert_many(others).await?;
    let broadcaster = env.broadcaster().start().await?;
    let api = broadcaster.api()?;
    let ready = async |status: &str, readable: &str| -> Result<()> {
        let answer = api.get("/readyz").await?;
        let body: Value = answer.json()?;
        let told = &body["dependencies"]["readable_messages"];
        ensure!(answer.status == 200 && body["status"] == status && told == readable, "{body}");
        Ok(())
    };
    eventually("it is degraded", SOON, async || ready("degraded", "down").await).await;
    let metrics = api.get("/metrics").await?.text;
    let counted =
        metrics.lines().find(|line| line.starts_with("messages_unreadable_documents_total "));
    assert!(counted.is_some_and(|line| !line.ends_with(" 0")), "{metrics}");
    let log = broadcaster.log_text();
    let lines: Vec<Value> = (log.lines())
        .filter(|line| line.contains("is left out"))
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    assert_eq!(lines.len(), 1, "{log}");
    let told = lines[0]["message.id"].as_str().context("no id")?;
    assert!(
        told.starts_with("string old ") || told == "objectId 66f0a1b2c3d4e5f601020304",
        "{told}"
    );
    assert!(lines[0]["message"].as_str().is_some_and(|text| text.contains("import")), "{log}");

    // One message among them is found.
    let system = System::start_in(env).await?;
    let created = system.create("alice", "bob", "hello").await?;
    let mut subscriber = Subscriber::connect(&broadcaster.websocket_url("/api/chat")).await?;
    assert_eq!(subscriber.next_json::<Message>(SOON).await?, created);
    eventually("it is ready", SOON, async || ready("ready", "up").await).await;
    Ok(())
}

#[tokio::test]
async fn a_list_has_every_message_among_documents_of_another_service() -> Result<()> {
    let system = System::start().await?;
    let messages = collection::<Document>(&system.env, "messages").await?;
    let mut expected = Vec::new();
    for number in 0..6 {
        let content = format!("number {number}");
        let message = system.create("1", "2", &content).await?;
        let at = DateTime::from_millis(message.publish_timestamp.unix_millis());
        let beside = doc! { "from_user_id": "1", "to_user_id": "2", "publish_timestamp": at };
        for id in [Bson::from(ObjectId::new()), Bson::from(content.clone())] {
            messages.insert_one(changed(legacy(id, &content), beside.clone())).await?;
        }
        expected.insert(0, message);
    }
    for limit in 1..=4 {
        let mut path = format!("/api/messages?from_user_id=1&to_user_id=2&limit={limit}");
        let mut listed: Vec<Message> = Vec::new();
        for _ in 0..20 {
            let answer = system.api.get(&path).await?;
            ensure!(answer.status == 200, "{} {}", answer.status, answer.text);
            listed.extend(answer.json::<Vec<Message>>()?);
            let Some(next) = answer.link("next") else { break };
            next.clone_into(&mut path);
        }
        assert_eq!(listed, expected, "pages of {limit}");
    }
    let log = system.gateway.log_text();
    assert_eq!(log.matches("is left out").count(), 1, "{log}");
    Ok(())
}
