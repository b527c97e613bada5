//! Messages, as a client of the gateway sees them.

use anyhow::{Context, Result};
use contracts::{Message, Problem};
use end_to_end::{System, draft};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::TestEnvironment;

#[tokio::test]
async fn a_created_message_can_be_read_at_once() -> Result<()> {
    let system = System::start().await?;
    let answer = system.api.post("/api/messages", &draft("alice", "bob", "hello")).await?;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let message: Message = answer.json()?;
    assert_eq!(message.content.as_str(), "hello");
    assert_eq!(message.edit_timestamp, None);
    assert_eq!(answer.header("etag"), Some("\"1\""));
    assert_eq!(answer.header("location"), Some(&*format!("/api/messages/{}", message.id)));
    let read = system.api.get(answer.header("location").context("no Location")?).await?;
    assert_eq!(read.status, 200);
    assert_eq!(read.json::<Message>()?, message);
    assert_eq!(read.header("etag"), Some("\"1\""));
    Ok(())
}

#[tokio::test]
async fn the_fields_are_those_of_the_contract_in_their_order() -> Result<()> {
    let system = System::start().await?;
    let answer = system.api.post("/api/messages", &draft("alice", "bob", "hello")).await?;
    let message: Message = answer.json()?;
    let expected = format!(
        r#"{{"id":"{}","from_user_id":"alice","to_user_id":"bob","content":"hello","publish_timestamp":"{}","edit_timestamp":null}}"#,
        message.id, message.publish_timestamp
    );
    assert_eq!(answer.text, expected);
    Ok(())
}

#[tokio::test]
async fn a_list_is_newest_first_and_leaves_out_other_conversations() -> Result<()> {
    let system = System::start().await?;
    let mut sent = Vec::new();
    for number in 0..5 {
        sent.push(system.create("alice", "bob", &format!("number {number}")).await?);
    }
    system.create("bob", "alice", "the other way").await?;
    system.create("alice", "carol", "somebody else").await?;
    sent.reverse();
    assert_eq!(system.list("alice", "bob").await?, sent);
    let path = "/api/messages?from_user_id=alice&to_user_id=bob&limit=2";
    let page: Vec<Message> = system.api.get(path).await?.json()?;
    assert_eq!(page, sent[..2]);
    assert_eq!(system.list("nobody", "bob").await?, []);
    Ok(())
}

#[tokio::test]
async fn a_list_has_fifty_messages_unless_asked() -> Result<()> {
    let system = System::start().await?;
    for number in 0..51 {
        system.create("alice", "bob", &format!("number {number}")).await?;
    }
    assert_eq!(system.list("alice", "bob").await?.len(), 50);
    Ok(())
}

#[tokio::test]
async fn an_edit_keeps_the_publish_timestamp_and_sets_the_edit_timestamp() -> Result<()> {
    let system = System::start().await?;
    let message = system.create("alice", "bob", "first").await?;
    let edited = system.edit(&message, "second").await?;
    assert_eq!(edited.content.as_str(), "second");
    assert_eq!(edited.publish_timestamp, message.publish_timestamp);
    let first_edit = edited.edit_timestamp.context("no edit timestamp")?;
    assert!(first_edit > message.publish_timestamp);
    let edited = system.edit(&message, "third").await?;
    assert!(edited.edit_timestamp.context("no edit timestamp")? > first_edit);
    assert_eq!(system.read(&message).await?, Some(edited));
    Ok(())
}

#[tokio::test]
async fn content_that_looks_like_an_expression_is_stored_as_it_is() -> Result<()> {
    let system = System::start().await?;
    let message = system.create("alice", "bob", "$content").await?;
    let edited = system.edit(&message, "$from_user_id").await?;
    assert_eq!(edited.content.as_str(), "$from_user_id");
    let message = system.create("$alice", "{\"$gt\":\"\"}", "\u{0} NUL and 𝄞").await?;
    assert_eq!(system.read(&message).await?, Some(message));
    Ok(())
}

#[tokio::test]
async fn a_fetched_message_can_be_edited_and_sent_back_whole() -> Result<()> {
    let system = System::start().await?;
    let message = system.create("alice", "bob", "first").await?;
    let path = format!("/api/messages/{}", message.id);
    for content in ["second", "third"] {
        let mut fetched: Value = system.api.get(&path).await?.json()?;
        fetched["content"] = json!(content);
        let answer = system.api.put(&path, &fetched).await?;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    // What was read before an edit is sent back with the tag it had: the tag says it is too old.
    let request = system.api.request(Method::PUT, &path).header("if-match", "\"1\"");
    let stale = system.api.send(request.json(&message)).await?;
    assert_eq!(stale.status, 412, "{}", stale.text);
    let mut forged: Value = system.api.get(&path).await?.json()?;
    forged["to_user_id"] = json!("mallory");
    forged["publish_timestamp"] = json!("2020-01-01T00:00:00Z");
    let answer = system.api.put(&path, &forged).await?;
    assert_eq!(answer.status, 409, "{}", answer.text);
    assert_eq!(answer.json::<Problem>()?.errors.len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_deleted_message_is_gone() -> Result<()> {
    let system = System::start().await?;
    let message = system.create("alice", "bob", "hello").await?;
    assert_eq!(system.delete(&message).await?, 204);
    assert_eq!(system.read(&message).await?, None);
    assert_eq!(system.list("alice", "bob").await?, []);
    assert_eq!(system.delete(&message).await?, 404);
    let path = format!("/api/messages/{}", message.id);
    let answer = system.api.put(&path, &json!({ "content": "again" })).await?;
    assert_eq!(answer.status, 404);
    Ok(())
}

#[tokio::test]
async fn a_version_that_changed_meanwhile_is_not_overwritten() -> Result<()> {
    let system = System::start().await?;
    let message = system.create("alice", "bob", "first").await?;
    let path = format!("/api/messages/{}", message.id);
    let edit = async |if_match: &str, content: &str| {
        let request = system.api.request(Method::PUT, &path).header("if-match", if_match);
        system.api.send(request.json(&json!({ "content": content }))).await
    };
    let answer = edit("\"1\"", "second").await?;
    assert_eq!((answer.status, answer.header("etag")), (200, Some("\"2\"")));
    assert_eq!(edit("\"1\"", "lost").await?.status, 412);
    let delete = system.api.request(Method::DELETE, &path).header("if-match", "\"1\"");
    assert_eq!(system.api.send(delete).await?.status, 412);
    let read = system.api.request(Method::GET, &path).header("if-none-match", "\"2\"");
    assert_eq!(system.api.send(read).await?.status, 304);
    let delete = system.api.request(Method::DELETE, &path).header("if-match", "\"2\"");
    assert_eq!(system.api.send(delete).await?.status, 204);
    Ok(())
}

#[tokio::test]
async fn wrong_input_is_a_problem_that_names_every_wrong_field() -> Result<()> {
    let system = System::start().await?;
    let body = json!({ "from_user_id": "", "content": "x".repeat(4001), "colour": "red" });
    let answer = system.api.post("/api/messages", &body).await?;
    assert_eq!(answer.status, 422);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let problem: Value = answer.json()?;
    let wrong: Vec<&Value> =
        problem["errors"].as_array().context("no errors")?.iter().map(|e| &e["loc"]).collect();
    assert_eq!(
        wrong,
        [
            &json!(["body", "from_user_id"]),
            &json!(["body", "to_user_id"]),
            &json!(["body", "content"]),
            &json!(["body", "colour"]),
        ]
    );
    let answer = system.api.get("/api/messages?from_user_id=alice&limit=0").await?;
    assert_eq!(answer.json::<Problem>()?.errors.len(), 2);
    assert_eq!(system.api.get("/api/messages/not-a-uuid").await?.status, 422);
    Ok(())
}

#[tokio::test]
async fn every_refusal_is_a_problem() -> Result<()> {
    let system = System::start().await?;
    let post = || system.api.request(Method::POST, "/api/messages");
    let json_type = ("content-type", "application/json");
    let cases = [
        (post().header(json_type.0, json_type.1).body("{"), 400),
        (post().header("content-type", "text/plain").body("{}"), 415),
        (post().header(json_type.0, json_type.1).body(" ".repeat(65_537)), 413),
        (system.api.request(Method::GET, "/nowhere"), 404),
        (system.api.request(Method::PATCH, "/api/messages"), 405),
        (system.api.request(Method::GET, "/api/operations/x"), 422),
        (system.api.request(Method::GET, "/api/messages/%FF"), 422),
        (system.api.request(Method::GET, "/docs/%FF"), 404),
    ];
    for (request, status) in cases {
        let answer = system.api.send(request).await?;
        let problem: Problem = answer.json()?;
        assert_eq!((answer.status, problem.status), (status, status), "{}", answer.text);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        if status == 405 {
            assert_eq!(answer.header("allow"), Some("GET,HEAD,POST,OPTIONS"));
        }
    }
    Ok(())
}

#[tokio::test]
async fn odd_bodies_are_refused_by_the_field_or_by_the_byte() -> Result<()> {
    let system = System::start().await?;
    let with_from = |from: &str| {
        format!(r#"{{"from_user_id":{from},"to_user_id":"bob","content":"x"}}"#).into_bytes()
    };
    let mut invalid_utf8 = with_from("\"?\"");
    invalid_utf8[17] = 0xff;
    let cases: [(Vec<u8>, u16); 16] = [
        (with_from("NaN"), 400),
        (with_from("Infinity"), 400),
        (with_from("1e400"), 400),
        (with_from("01"), 400),
        (with_from("\"\\ud800\""), 400),
        (invalid_utf8, 400),
        (with_from(&"[".repeat(60_000)), 400),
        (Vec::new(), 400),
        (b"[]".to_vec(), 422),
        (b"null".to_vec(), 422),
        (with_from("1.5"), 422),
        (with_from(&"9".repeat(40)), 422),
        (with_from("\"a\\u0000\""), 422),
        (with_from("\"a\\u0085\""), 422),
        (with_from("true"), 422),
        (with_from("1,\"from_user_id\":2"), 422),
    ];
    for (body, status) in cases {
        let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
        let request = system.api.request(Method::POST, "/api/messages");
        let answer = system.api.send(request.header("content-type", "application/json").body(body));
        let answer = answer.await?;
        assert_eq!(answer.status, status, "{shown}: {}", answer.text);
        assert_eq!(answer.json::<Problem>()?.status, status);
    }
    for path in ["/api/messages/%FF", "/api/messages/%00", "/api/operations/%FF"] {
        let answer = system.api.get(path).await?;
        assert_eq!((answer.status, answer.json::<Problem>()?.status), (422, 422), "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn a_user_id_may_be_an_integer() -> Result<()> {
    let system = System::start().await?;
    let body = json!({ "from_user_id": 1, "to_user_id": 2, "content": "hello" });
    let answer = system.api.post("/api/messages", &body).await?;
    assert_eq!(answer.json::<Message>()?.from_user_id.as_str(), "1");
    assert_eq!(system.list("1", "2").await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn it_also_works_on_a_standalone_mongod() -> Result<()> {
    let env = TestEnvironment::builder().standalone_mongod().build().await;
    let system = System::start_in(env).await?;
    let message = system.create("alice", "bob", "first").await?;
    let edited = system.edit(&message, "second").await?;
    assert_eq!(system.list("alice", "bob").await?, [edited]);
    assert_eq!(system.delete(&message).await?, 204);
    assert_eq!(system.read(&message).await?, None);
    Ok(())
}
